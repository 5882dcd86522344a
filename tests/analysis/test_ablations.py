"""Verdicts on ablations: by hand, beside scipy, and by what must hold for any scores."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reverie.analysis.ablations import Scores, as_json, compare, tabulate, welch_interval, write


@pytest.mark.parametrize(
    ("full", "ablation", "paper", "supported"),
    [
        # Far apart, and the seeds agree.
        ([10, 11, 12], [20, 21, 22], "better", "better"),
        ([20, 21, 22], [10, 11, 12], "worse", "worse"),
        ([10, 11, 12], [10, 11, 12], "tied", "tied"),
        # The seeds disagree: 15 more on average, but the interval is wide.
        ([0, 10, 20], [5, 25, 45], "better", "tied"),
        # The seeds agree to the last digit, and the difference is 5 % of the larger mean, then more.
        ([95, 95, 95], [100, 100, 100], "tied", "tied"),
        ([100, 100, 100], [95, 95, 95], "tied", "tied"),
        ([94, 94, 94], [100, 100, 100], "better", "better"),
        ([100, 100, 100], [94, 94, 94], "worse", "worse"),
        # Scores below 0, as in Pong.
        ([-20, -20, -20], [-19.1, -19.1, -19.1], "tied", "tied"),
        ([-20, -19.8, -20.2], [-10, -10.5, -9.5], "better", "better"),
        ([16, 17, 18], [-6, -5, -4], "worse", "worse"),
        # One seed of one of them: no interval.
        ([100], [130], "better", "tied"),
        ([100, 100], [130], "better", "tied"),
        ([0], [0], "tied", "tied"),
        # MinAtar's Space Invaders as measured: the plain KL is 5.2 % below the full agent.
        ([9.925, 8.3, 8.3625], [10.3, 6.7, 8.2], "worse", "tied"),
    ],
)
def test_verdicts_by_hand(full: list[float], ablation: list[float], paper: str, supported: str) -> None:
    found = compare(full, ablation)
    assert (found.paper, found.supported) == (paper, supported)


def test_a_comparison_says_what_it_rests_on() -> None:
    found = compare([10, 12], [20, 22])
    assert (found.full, found.ablation, found.difference) == ((10, 12), (20, 22), 10)
    # Standard error sqrt(2/2 + 2/2), two degrees of freedom, t = 4.303.
    assert found.interval == pytest.approx((10 - 4.30265 * 2**0.5, 10 + 4.30265 * 2**0.5), abs=1e-4)
    assert compare([10], [20]).interval is None


def test_table_names_both_rules_and_counts_by_each(tmp_path: Path) -> None:
    full = {"A": Scores((10.0, 11.0, 12.0)), "B": Scores((0.0, 10.0, 20.0))}
    other = {"A": Scores((20.0, 21.0, 22.0)), "B": Scores((5.0, 25.0, 45.0))}
    rows = tabulate(full, {"gaussian-latents": other})
    facts = {"seeds": 3, "tasks": "A, B", "score": "A score is a score."}
    page = write(rows, facts, tmp_path)[0].read_text()
    header = " | ".join(("better / worse / tied", "here, paper's rule", "here, supported", "article, 55 games"))
    assert header in page
    assert "| gaussian-latents | 2 / 0 / 0 | 1 / 0 / 1 | 8 / 42 / 5 | 0 |" in page
    assert "within 5% of each other" in page and "Welch's 95% interval" in page
    assert "| better | tied |" in page  # task B
    found = as_json(rows, facts)["ablations"]["gaussian-latents"]
    assert found["paper_rule"] == {"better": 2, "worse": 0, "tied": 0}
    assert found["supported"] == {"better": 1, "worse": 0, "tied": 1}
    assert {path.name for path in tmp_path.iterdir()} == {"ablations.md", "ablations.json"}


@pytest.mark.parametrize("scores", [[], [float("nan")], [float("inf"), 1.0]])
def test_scores_must_be_numbers(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        compare(scores, [1.0])
    with pytest.raises(ValueError, match="finite"):
        compare([1.0], scores)


SAMPLES = st.lists(st.integers(-50, 50).map(float), min_size=2, max_size=6)


@pytest.mark.filterwarnings("error")
@given(SAMPLES, SAMPLES)
def test_welch_interval_by_its_formula(a: list[float], b: list[float]) -> None:
    """Difference ± t sqrt(s_a²/n_a + s_b²/n_b), with the degrees of freedom of Welch and Satterthwaite."""
    found = welch_interval(a, b)
    difference = sum(a) / len(a) - sum(b) / len(b)
    parts = [sum((x - sum(v) / len(v)) ** 2 for x in v) / (len(v) - 1) / len(v) for v in (a, b)]
    if sum(parts) == 0:
        assert found == pytest.approx((difference, difference))
        return
    degrees = sum(parts) ** 2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (a, b), strict=True))
    reach = stats.t.ppf(0.975, degrees) * sum(parts) ** 0.5
    assert found == pytest.approx((difference - reach, difference + reach), rel=1e-6, abs=1e-6)
