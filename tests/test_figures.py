"""Numbers of the documents and the files of results/ that they come from."""

import pytest

from benchmarks.claims import Claim, Rounded, registry, row, text
from benchmarks.figures import agrees, check, numbers, read_documents, sources

TABLE = "| Agent | Seed | Score | |\n|---|---|---|---|\n| `full` | 0 | **1,234.5** | worse |\n| | 1 | -7 | tied |\n"


@pytest.fixture(scope="module")
def claims() -> list[Claim]:
    return registry()


def errors_of(document: str, claim: Claim) -> list[str]:
    return check({"": document}, [claim])[0]


def test_documents_of_this_repository_have_the_numbers_of_results(claims: list[Claim]) -> None:
    documents = read_documents()
    errors, recomputed = check(documents, claims)
    assert errors == []
    assert len(recomputed["docs/results.md"]) > 500


@pytest.mark.parametrize(
    "name, printed, changed",
    [
        ("docs/results.md", "| **12.5** |", "| **12.6** |"),  # table
        ("docs/results.md", "**70.2 ± 10.6**", "**70.2 ± 10.4**"),  # sentence
        ("docs/results.md", "**-11.0 to -3.3** | worse", "**-11.0 to -3.3** | tied"),  # verdict
        ("README.md", "| 500.0, 500.0, 500.0 after", "| 500.0, 499.0, 500.0 after"),
        ("docs/durability.md", "808 were named", "809 were named"),
        ("docs/performance.md", "| 1.06 (0.96 to 1.10) |", "| 1.07 (0.96 to 1.10) |"),
        ("docs/reporting.md", "| recomputed | 2.58 |", "| recomputed | 2.57 |"),
    ],
)
def test_check_changed_number_is_reported(name: str, printed: str, changed: str, claims: list[Claim]) -> None:
    documents = read_documents()
    assert documents[name].count(printed) == 1
    before = check(documents, claims)[0]
    documents[name] = documents[name].replace(printed, changed)
    (error,) = set(check(documents, claims)[0]) - set(before)
    assert error.startswith(f"{name}:") and error.endswith("by results/.")


def test_check_missing_text_is_reported(claims: list[Claim]) -> None:
    documents = read_documents()
    before = check(documents, claims)[0]
    documents["docs/durability.md"] = documents["docs/durability.md"].replace("808 were named", "808 were seen")
    (error,) = set(check(documents, claims)[0]) - set(before)
    assert "0 places with the text" in error


def test_text_line_break_matches_space() -> None:
    assert errors_of("about 12\nof 30 runs", text("about {} of {} runs", 12, 30)) == []


def test_row_empty_first_cell_repeats_the_one_above() -> None:
    assert errors_of(TABLE, row("Agent | Seed", "full", "0", [1234.5, "worse"])) == []
    assert errors_of(TABLE, row("Agent | Seed", "full", "1", [-7, "tied"])) == []
    assert "0 rows" in errors_of(TABLE, row("Agent | Seed", "full", "2", [1]))[0]


def test_row_other_count_is_reported() -> None:
    assert "has 2 numbers, 1 are computed" in errors_of(TABLE, row("Agent | Seed", "full", "0", [1234.5]))[0]


@pytest.mark.parametrize(
    "printed, value, expected",
    [
        ("9.2", 9.25, True),
        ("9.3", 9.25, True),
        ("9.2", 9.26, False),
        ("92k", 92_309, True),
        ("92k", 92_600, False),
        ("-1,204", -1204.4, True),
        ("14,400", 14_425, False),
        ("14,400", Rounded(14_425, 100), True),
        ("worse", "tied", False),
        ("3", None, True),
    ],
)
def test_agrees_value_is_rounded_as_printed(printed: str, value: float | str | None, expected: bool) -> None:
    assert agrees(printed, value) is expected


def test_numbers_code_links_and_names_are_left_out() -> None:
    document = (
        "At 5 % `--steps 7`, [8](x9.md) of bf16 and seed-1 at 2.13.0, commit 3139778, -0.5, 1,000, 92k.\n\n    run 3\n"
    )
    assert [printed for _, printed in numbers(document)] == ["5", "8", "-0.5", "1,000", "92k"]


def test_sources_links_of_the_paragraph_come_before_those_of_the_section() -> None:
    document = "# A\n\nOne 1 ([a](../results/a.jsonl)).\n\nTwo 2.\n\nThree 3 ([b](results/b)).\n"
    found = {printed: sources(document, position) for position, printed in numbers(document)}
    assert found == {"1": ["results/a.jsonl"], "2": ["results/a.jsonl", "results/b"], "3": ["results/b"]}
