"""Verdicts on ablations: by hand, beside scipy, and by what must hold for any scores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reverie.analysis.ablations import (
    compare,
    welch_interval,
)

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
