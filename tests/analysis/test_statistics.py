"""Aggregates and intervals: by hand, and against rliable's own functions."""

from typing import Any

import numpy as np
import pytest
from rliable import library, metrics

from reverie.analysis import statistics as module
from reverie.analysis.statistics import Estimate, aggregate_estimates

GAMES = ("ALE/Boxing-v5", "ALE/Pong-v5", "ALE/Freeway-v5")
"""(random, gamer, record): (0.1, 12.1, 100), (-20.7, 14.6, 21), (0, 29.6, 38)."""


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPETITIONS", 400)


def estimates(scores: Any) -> dict[str, Estimate]:
    array = np.array(scores, np.float64)
    return aggregate_estimates(GAMES[: array.shape[1]], array)


def test_aggregates_by_hand() -> None:
    """Gamer-normalised: boxing 0 and 2, pong 1 and 1, freeway 0 and 4; means 1, 1, 2."""
    found = estimates([[0.1, 14.6, 0], [24.1, 14.6, 118.4]])
    assert found["gamer_median"].point == pytest.approx(1)
    assert found["gamer_mean"].point == pytest.approx(4 / 3)
    # Of 0 0 1 1 2 4 the lowest and the highest are left out.
    assert found["gamer_iqm"].point == pytest.approx(1)
    # Record-normalised means: 12 / 99.9, 35.3 / 41.7 and 59.2 / 38, which is clipped.
    assert found["record_mean"].point == pytest.approx((12 / 99.9 + 35.3 / 41.7 + 59.2 / 38) / 3)
    assert found["clipped_record_mean"].point == pytest.approx((12 / 99.9 + 35.3 / 41.7 + 1) / 3)


def test_interval_of_two_seeds() -> None:
    """Draws of two seeds are twice the first, one of each, or twice the second: the ends are the seeds themselves."""
    found = estimates([[6.1], [18.1]])["gamer_mean"]
    assert found == (pytest.approx(1.0), pytest.approx(0.5), pytest.approx(1.5))


def test_intervals_are_those_of_rliable() -> None:
    """Points and ends to the last digit: the draws are the same."""
    scores = np.random.default_rng(1).normal(5, 9, (5, 3))
    found, normalised = estimates(scores), (scores - [0.1, -20.7, 0]) / [12.0, 35.3, 29.6]
    for kind, function in (("gamer_iqm", metrics.aggregate_iqm), ("gamer_median", metrics.aggregate_median)):
        np.random.seed(module.SEED)
        point, ends = library.get_interval_estimates(
            {"": normalised}, lambda x, function=function: np.array([function(x)]), reps=module.REPETITIONS
        )
        assert found[kind] == pytest.approx((point[""][0], *ends[""][:, 0]))
    assert estimates(scores) == found


def test_one_seed_has_no_interval() -> None:
    assert np.isnan(estimates([[6.1, 0]])["gamer_mean"][1:]).all()
    assert np.isfinite(estimates([[7.1, 3], [8.1, 4]])["gamer_mean"][1:]).all()


def test_control_suite() -> None:
    found = aggregate_estimates(("dm_control/walker-walk-v0",), np.array([[200.0], [400.0]]))
    assert {kind: estimate.point for kind, estimate in found.items()} == {
        "dmc_iqm": pytest.approx(0.3),
        "dmc_median": pytest.approx(0.3),
        "dmc_mean": pytest.approx(0.3),
    }
