"""Aggregates and intervals: by hand, and against rliable's own functions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rliable import library, metrics

from reverie.analysis import statistics as module
from reverie.analysis.comparison import Matrix
from reverie.analysis.statistics import statistics

GAMES = ("ALE/Boxing-v5", "ALE/Pong-v5", "ALE/Freeway-v5")
"""(random, gamer, record): (0.1, 12.1, 100), (-20.7, 14.6, 21), (0, 29.6, 38)."""


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPETITIONS", 400)


def matrix_of(**scores: list[list[float]]) -> Matrix:
    arrays = {name: np.array(rows, np.float64) for name, rows in scores.items()}
    count = next(iter(arrays.values())).shape[1]
    return Matrix("atari", GAMES[:count], arrays, (), {})


def rliable_estimate(scores: Any, function: Callable[..., Any]) -> tuple[float, float, float]:
    np.random.seed(module.SEED)
    point, ends = library.get_interval_estimates({"": scores}, function, reps=module.REPETITIONS)
    return float(point[""][0]), *map(float, ends[""][:, 0])


def test_aggregates_by_hand() -> None:
    """Gamer-normalised: boxing 0 and 2, pong 1 and 1, freeway 0 and 4; means 1, 1, 2."""
    found = statistics(matrix_of(a=[[0.1, 14.6, 0], [24.1, 14.6, 118.4]])).aggregates["a"]
    assert found["gamer_median"].point == pytest.approx(1)
    assert found["gamer_mean"].point == pytest.approx(4 / 3)
    # Of 0 0 1 1 2 4 the lowest and the highest are left out.
    assert found["gamer_iqm"].point == pytest.approx(1)
    # Record-normalised means: 12 / 99.9, 35.3 / 41.7 and 59.2 / 38, which is clipped.
    assert found["record_mean"].point == pytest.approx((12 / 99.9 + 35.3 / 41.7 + 59.2 / 38) / 3)
    assert found["clipped_record_mean"].point == pytest.approx((12 / 99.9 + 35.3 / 41.7 + 1) / 3)


def test_interval_of_two_seeds() -> None:
    """Draws of two seeds are twice the first, one of each, or twice the second: the ends are the seeds themselves."""
    found = statistics(matrix_of(a=[[6.1], [18.1]])).aggregates["a"]["gamer_mean"]
    assert found == (pytest.approx(1.0), pytest.approx(0.5), pytest.approx(1.5))


def test_interval_is_that_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal([[6, 0, 20]], [[4, 9, 5]], (6, 3))
    table = matrix_of(a=scores.tolist())
    found = statistics(table).aggregates["a"]["gamer_mean"]
    spans = np.array([12.0, 35.3, 29.6])
    normalised = (scores - [0.1, -20.7, 0]) / spans
    draws = [np.mean([normalised[rng.integers(6, size=6), game].mean() for game in range(3)]) for _ in range(4000)]
    assert found.point == pytest.approx(normalised.mean())
    low, high = np.quantile(draws, [0.025, 0.975])
    width = high - low
    assert found.low == pytest.approx(low, abs=0.12 * width)
    assert found.high == pytest.approx(high, abs=0.12 * width)


def test_against_rliable() -> None:
    """Points, and intervals to the last digit: the draws are the same."""
    rng = np.random.default_rng(1)
    table = matrix_of(a=rng.normal(5, 9, (5, 3)).tolist(), b=rng.integers(0, 9, (4, 3)).tolist())
    found = statistics(table)
    own = {name: (x - [0.1, -20.7, 0]) / [12.0, 35.3, 29.6] for name, x in table.scores.items()}
    for name, scores in own.items():
        assert found.aggregates[name]["gamer_iqm"] == pytest.approx(
            rliable_estimate(scores, lambda x: np.array([metrics.aggregate_iqm(x)]))
        )
        assert found.aggregates[name]["gamer_median"] == pytest.approx(
            rliable_estimate(scores, lambda x: np.array([metrics.aggregate_median(x)]))
        )


def test_one_seed_has_no_interval() -> None:
    found = statistics(matrix_of(a=[[6.1, 0]], b=[[7.1, 3], [8.1, 4]]))
    assert np.isnan(found.aggregates["a"]["gamer_mean"][1:]).all()
    assert np.isfinite(found.aggregates["b"]["gamer_mean"][1:]).all()


def test_control_suite() -> None:
    table = Matrix("dmc", ("dm_control/walker-walk-v0",), {"a": np.array([[200.0], [400.0]])}, (), {})
    found = statistics(table).aggregates["a"]
    assert {kind: estimate.point for kind, estimate in found.items()} == {
        "dmc_iqm": pytest.approx(0.3),
        "dmc_median": pytest.approx(0.3),
        "dmc_mean": pytest.approx(0.3),
    }


def test_the_same_runs_give_the_same_intervals() -> None:
    table = matrix_of(a=np.random.default_rng(0).normal(size=(5, 2)).tolist())
    assert statistics(table).aggregates == statistics(table).aggregates
