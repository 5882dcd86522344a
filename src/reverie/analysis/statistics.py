"""Aggregates over environments, with the stratified bootstrap intervals of Agarwal et al. (2021).

Seeds are redrawn with replacement, separately in each environment; an interval is the middle 95 % of
the aggregates of these draws. It covers what other seeds would give in the same environments. The draws are those of
rliable's `get_interval_estimates` with numpy's generator seeded with 0.
"""

import itertools
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
    aggregates: Mapping[str, Mapping[str, Estimate]]  # by agent, then by kind
    improvement: Mapping[tuple[str, str], Estimate]  # P(first > second) for each ordered pair of agents

    @property
    def kinds(self) -> list[str]:
        """Keys of `KINDS` in this suite."""
        return list(next(iter(self.aggregates.values())))


def statistics(matrix: Matrix) -> Statistics:
    """Return every aggregate of a suite."""
    games = [found for name in matrix.environments if (found := game_scores(name))]
    summarise = partial(atari_aggregates, games=games) if games else dmc_aggregates
    agents = matrix.scores.items()
    improvement = {
        (first, second): bootstrap(lambda x, y: {"": probability_of_improvement(x, y)}, x, y)[""]
        for (first, x), (second, y) in itertools.permutations(agents, 2)
    }
    return Statistics(matrix, {agent: bootstrap(summarise, scores) for agent, scores in agents}, improvement)


def probability_of_improvement(x: Floats, y: Floats) -> float:
    """Return P(X > Y) + P(X = Y) / 2 for a random seed of each [seeds, environments], mean over environments."""
    return float(((x[:, None] > y) + 0.5 * (x[:, None] == y)).mean())


def bootstrap(function: Callable[..., dict[str, float]], *scores: Floats) -> dict[str, Estimate]:
    """Return named values of scores [seeds, environments], with intervals where each has several seeds."""
    points = function(*scores)
    if min(map(len, scores)) < 2:
        return {name: Estimate(point) for name, point in points.items()}
    random, draws = np.random.RandomState(SEED), []
    for _ in range(REPETITIONS):
        drawn = (np.take_along_axis(each, random.choice(len(each), each.shape), axis=0) for each in scores)
        draws.append(list(function(*drawn).values()))
    ends = np.quantile(draws, [(1 - SIZE) / 2, (1 + SIZE) / 2], axis=0)
    return {
        name: Estimate(point, *map(float, pair)) for (name, point), pair in zip(points.items(), ends.T, strict=True)
    }
