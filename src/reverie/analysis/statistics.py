"""Aggregates over environments, with the stratified bootstrap intervals of Agarwal et al. (2021).

Seeds are redrawn with replacement, separately in each environment; an interval is the middle 95 % of
the aggregates of these draws. It covers what other seeds would give in the same environments. The draws are those of
rliable's `get_interval_estimates` with numpy's generator seeded with 0.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.analysis.comparison import Matrix
from reverie.analysis.published import game_scores
from reverie.analysis.scores import atari_aggregates, dmc_aggregates

Floats = NDArray[np.float64]

REPETITIONS = 2000  # bootstrap draws
SIZE = 0.95  # confidence of the intervals
SEED = 0  # seed of the draws, so that the same runs give the same report

KINDS = {
    "gamer_iqm": "interquartile mean, gamer-normalised",
    "gamer_median": "median, gamer-normalised",
    "gamer_mean": "mean, gamer-normalised",
    "record_mean": "mean, record-normalised",
    "clipped_record_mean": "mean, record-normalised and clipped at 1",
    "dmc_iqm": "interquartile mean, return / 1000",
    "dmc_median": "median, return / 1000",
    "dmc_mean": "mean, return / 1000",
}


class Estimate(NamedTuple):
    """A number and the ends of its 95 % interval, nan where there is none."""

    point: float
    low: float = math.nan
    high: float = math.nan


class Statistics(NamedTuple):
    """Aggregates of one suite."""

    matrix: Matrix
    aggregates: Mapping[str, Mapping[str, Estimate]]  # by agent, then by the key of `KINDS`

    @property
    def kinds(self) -> list[str]:
        """Keys of `KINDS` in this suite."""
        return list(next(iter(self.aggregates.values())))


def statistics(matrix: Matrix) -> Statistics:
    """Return every aggregate of a suite, with intervals for agents that have several seeds."""
    games = [found for name in matrix.environments if (found := game_scores(name))]
    summarise = partial(atari_aggregates, games=games) if games else dmc_aggregates
    return Statistics(matrix, {agent: _bootstrap(summarise, scores) for agent, scores in matrix.scores.items()})


def _bootstrap(summarise: Callable[[Floats], dict[str, float]], scores: Floats) -> dict[str, Estimate]:
    points = summarise(scores)
    if len(scores) < 2:
        return {kind: Estimate(point) for kind, point in points.items()}
    random = np.random.RandomState(SEED)
    draws = [random.choice(len(scores), scores.shape) for _ in range(REPETITIONS)]
    values = [list(summarise(np.take_along_axis(scores, draw, axis=0)).values()) for draw in draws]
    ends = np.quantile(values, [(1 - SIZE) / 2, (1 + SIZE) / 2], axis=0)
    return {
        kind: Estimate(point, *map(float, pair)) for (kind, point), pair in zip(points.items(), ends.T, strict=True)
    }
