"""Aggregates over environments, with the stratified bootstrap intervals of Agarwal et al. (2021).

Seeds are redrawn with replacement, separately in each environment; an interval is the middle 95 % of
the aggregates of these draws. It covers what other seeds would give in the same environments. The draws are those of
rliable's `get_interval_estimates` with numpy's generator seeded with 0.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from reverie.analysis.comparison import Comparison, Floats
from reverie.analysis.published import Suite, game_scores, task
from reverie.analysis.scores import atari_aggregates, dmc_aggregates

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


class SuiteScores(NamedTuple):
    """Scores and aggregates of agents over the same environments, each with as many seeds in each of them."""

    suite: Suite
    environments: tuple[str, ...]
    scores: Mapping[str, Floats]  # by agent: raw scores, [seeds, environments]
    without: tuple[str, ...]  # environments of the suite in which some agent has no score
    unused: Mapping[str, tuple[tuple[str, int], ...]]  # by agent: environment and seed of scores that are left out
    aggregates: Mapping[str, Mapping[str, Estimate]]  # by agent, then by the key of `KINDS`

    @property
    def kinds(self) -> list[str]:
        """Keys of `KINDS` in this suite."""
        return list(next(iter(self.aggregates.values())))


def suite_scores(comparison: Comparison, suite: Suite) -> SuiteScores | None:
    """Return scores over the environments of a suite in which all agents have some; None if there are none.

    In each environment an agent has as many seeds as in the one where it has the fewest: those of the lowest numbers.
    """
    names = [name for name in comparison.environments if (found := task(name)) and found.suite == suite]
    table = {(entry.agent, entry.environment): entry for entry in comparison.entries if entry.n}
    agents = [agent for agent in comparison.agents if any((agent, name) in table for name in names)]
    shared = tuple(name for name in names if all((agent, name) in table for agent in agents))
    scores, unused = {}, {}
    for agent in agents if shared else ():
        count = min(table[agent, name].n for name in shared)
        scores[agent] = np.stack([table[agent, name].values[:count] for name in shared], axis=1)
        if rest := tuple((name, seed) for name in shared for seed in list(table[agent, name].scores)[count:]):
            unused[agent] = rest
    without = tuple(name for name in names if name not in shared)
    aggregates = {agent: aggregate_estimates(shared, found) for agent, found in scores.items()}
    return SuiteScores(suite, shared, scores, without, unused, aggregates) if scores else None


def aggregate_estimates(environments: Sequence[str], scores: Floats) -> dict[str, Estimate]:
    """Return every aggregate of raw scores [seeds, environments] of one suite; one seed has no intervals."""
    games = [found for name in environments if (found := game_scores(name))]
    summarise = partial(atari_aggregates, games=games) if games else dmc_aggregates
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
