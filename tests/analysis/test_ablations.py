"""Verdicts on ablations: by hand, beside scipy, and by what must hold for any scores."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reverie.analysis import ablation_table
from reverie.analysis.ablations import (
    ARTICLE,
    Counts,
    Row,
    Scores,
    compare,
    t_quantile,
    tabulate,
    welch_interval,
)
from reverie.variants import ABLATIONS

FACTS = {"seeds": 3, "tasks": "A (debug, 200 frames)", "score": "A score is a score."}


@pytest.mark.parametrize(
    ("full", "ablation", "random", "verdict"),
    [
        # Far apart, and the seeds agree.
        ([10, 11, 12], [20, 21, 22], 0, "better"),
        ([20, 21, 22], [10, 11, 12], 0, "worse"),
        ([10, 11, 12], [10, 11, 12], 0, "tied"),
        # The seeds disagree: 15 more on average, but the interval is wide.
        ([0, 10, 20], [5, 25, 45], 0, "tied"),
        # The seeds agree to the last digit, but the difference is 4% of the range, then 6%.
        ([100, 100, 100], [104.1, 104.1, 104.1], 0, "tied"),
        ([100, 100, 100], [106, 106, 106], 0, "better"),
        # The same where random play scores 90: the range is 16 then.
        ([100, 100, 100], [104.1, 104.1, 104.1], 90, "better"),
        # Scores below 0, as in Pong: random play loses 20 points.
        ([-20, -19.8, -20.2], [-10, -10.5, -9.5], -20.5, "better"),
        # Neither is above random play.
        ([-30, -31, -32], [-10, -11, -12], -5, "tied"),
        ([-30, -31, -32], [-10, -11, -12], None, "better"),
        # One seed: the margin is a quarter of the range.
        ([100], [130], 0, "tied"),
        ([100], [134], 0, "better"),
        ([100], [74], 0, "worse"),
        ([100, 100], [130], 0, "tied"),
        ([0], [0], 0, "tied"),
    ],
)
def test_verdicts_by_hand(full: list[float], ablation: list[float], random: float | None, verdict: str) -> None:
    assert compare(full, ablation, random).verdict == verdict


def test_a_comparison_says_what_it_rests_on() -> None:
    found = compare([10, 12], [20, 22], 1)
    assert (found.full, found.ablation, found.difference) == ((10, 12), (20, 22), 10)
    assert found.margin == pytest.approx(0.05 * 20)
    # Standard error sqrt(2/2 + 2/2), two degrees of freedom, t = 4.303.
    assert found.interval == pytest.approx((10 - 4.30265 * 2**0.5, 10 + 4.30265 * 2**0.5), abs=1e-4)
    assert compare([10], [20], 1).interval is None


@pytest.mark.parametrize("scores", [[], [float("nan")], [float("inf"), 1.0]])
def test_scores_must_be_numbers(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        compare(scores, [1.0], 0)
    with pytest.raises(ValueError, match="finite"):
        compare([1.0], scores, 0)


@pytest.mark.parametrize("degrees", [1, 1.5, 2, 3.7, 10, 100])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_t_quantile_is_scipys(confidence: float, degrees: float) -> None:
    assert t_quantile(confidence, degrees) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), rel=1e-5)


SAMPLES = st.lists(st.integers(-50, 50).map(float), min_size=2, max_size=6)


@pytest.mark.filterwarnings("ignore:Precision loss")
@given(SAMPLES, SAMPLES)
def test_welch_is_scipys(a: list[float], b: list[float]) -> None:
    found = welch_interval(a, b)
    if np.var(a) == np.var(b) == 0:
        assert found == (a[0] - b[0],) * 2
        return
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found == pytest.approx((expected.low, expected.high), rel=1e-4, abs=1e-6)


@given(SAMPLES, SAMPLES, st.integers(-50, 50).map(float))
def test_the_other_way_round_the_verdict_is_the_opposite(a: list[float], b: list[float], random: float) -> None:
    opposite = {"better": "worse", "worse": "better", "tied": "tied"}
    assert compare(a, b, random).verdict == opposite[compare(b, a, random).verdict]


def test_the_articles_counts() -> None:
    assert tuple(ARTICLE) == ABLATIONS[:6]
    assert all(counts.total == 55 for counts in ARTICLE.values())
    assert ARTICLE["gaussian-latents"] == Counts(better=8, worse=42, tied=5)


def rows() -> list[Row]:
    full = {"A": Scores((10, 11, 12)), "B": Scores((10, 11, 12)), "C": Scores((5,), "C full seed 1 was not run")}
    ablations = {
        "gaussian-latents": {"A": Scores((20, 21, 22)), "B": Scores((1, 2, 3)), "C": Scores((1, 2, 3))},
        "no-gru-norm": {
            "A": Scores((10, 11, 13)),
            "B": Scores((), "B no-gru-norm seed 0 failed"),
            "C": Scores((1, 2, 3)),
        },
    }
    return tabulate(full, ablations, {"A": 0.0})


def test_a_missing_cell_is_no_tie() -> None:
    gaussian, norm = rows()
    assert gaussian.counts == Counts(better=1, worse=1, tied=0)
    assert gaussian.missing == {"C": "C full seed 1 was not run"}
    assert norm.counts == Counts(better=0, worse=0, tied=1)
    assert norm.missing == {"B": "B no-gru-norm seed 0 failed", "C": "C full seed 1 was not run"}


def test_the_table() -> None:
    first, second = ablation_table.counts_table(rows())
    assert first == ("gaussian-latents", "1 (50%)", "1 (50%)", "0 (0%)", "1", "8 (15%)", "42 (76%)", "5 (9%)")
    assert second == ("no-gru-norm", "0 (0%)", "0 (0%)", "1 (100%)", "2", "not reported", "", "")
    assert ablation_table.counts_table(tabulate({}, {"no-gru-norm": {}}, {}))[0][1:5] == ("0", "0", "0", "0")


def test_notes() -> None:
    notes = "\n".join(ablation_table.notes(rows(), FACTS))
    assert "Tasks: 3, with 3 seeds of each agent: A (debug, 200 frames)." in notes
    assert "Rule: " in notes
    assert "without a rule for ties" in notes
    assert "Few seeds (3)" in notes
    assert "Not comparable: no-gru-norm on B: B no-gru-norm seed 0 failed" in notes
    assert "Few seeds" not in "\n".join(ablation_table.notes(rows(), {**FACTS, "seeds": 5}))


def test_files(tmp_path: Path) -> None:
    """Each says the same as the rows."""
    paths = ablation_table.write(rows(), FACTS, tmp_path)
    assert sorted(path.name for path in paths) == [f"ablations.{ending}" for ending in ("csv", "json", "md", "txt")]
    lines = list(csv.DictReader(io.StringIO((tmp_path / "ablations.csv").read_text())))
    verdicts = {(line["ablation"], line["task"]): line["verdict"] for line in lines}
    assert verdicts == {
        ("gaussian-latents", "A"): "better",
        ("gaussian-latents", "B"): "worse",
        ("gaussian-latents", "C"): "not comparable",
        ("no-gru-norm", "A"): "tied",
        ("no-gru-norm", "B"): "not comparable",
        ("no-gru-norm", "C"): "not comparable",
    }
    assert (float(lines[0]["difference"]), float(lines[0]["margin"])) == (10, pytest.approx(1.05))
    data = json.loads((tmp_path / "ablations.json").read_text())
    assert data["ablations"]["gaussian-latents"]["article"] == {"better": 8, "worse": 42, "tied": 5}
    assert data["ablations"]["gaussian-latents"]["tasks"]["A"]["verdict"] == "better"
    assert data["ablations"]["no-gru-norm"]["article"] is None
    page = (tmp_path / "ablations.md").read_text()
    assert "| gaussian-latents | 1 (50%) | 1 (50%) | 0 (0%) | 1 | 8 (15%) | 42 (76%) | 5 (9%) |" in page
    assert "| A | gaussian-latents | 3 | 11 | 21 | +10 |" in page
    assert "Not comparable: no-gru-norm on B" in (tmp_path / "ablations.txt").read_text()
