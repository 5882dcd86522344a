"""Aggregates over environments with stratified bootstrap intervals, by rliable (Agarwal et al., 2021).

Seeds are redrawn with replacement, separately in each environment; an interval is the middle 95 % of the aggregates of
these draws. It covers what other seeds would give in the same environments. Without rliable, or with a single seed,
there are point estimates only.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

from reverie.analysis.comparison import Matrix
from reverie.analysis.published import game_scores
from reverie.analysis.scores import DMC_MAXIMUM, gamer_normalised, record_normalised

Floats = NDArray[np.float64]

REPETITIONS = 2000  # bootstrap draws
SIZE = 0.95  # confidence of the intervals
SEED = 0  # seed of the draws, so that the same runs give the same report
INSTALL = "pip install 'reverie[report]'"
WITHOUT = f"There are no bootstrap intervals, since rliable is not installed; type {INSTALL} and make the report again."

KINDS = {
    "gamer_iqm": ("interquartile mean", "gamer-normalised"),
    "gamer_median": ("median", "gamer-normalised"),
    "gamer_mean": ("mean", "gamer-normalised"),
    "record_mean": ("mean", "record-normalised"),
    "clipped_record_mean": ("mean, clipped at 1", "record-normalised"),
    "dmc_iqm": ("interquartile mean", "return / 1000"),
    "dmc_median": ("median", "return / 1000"),
    "dmc_mean": ("mean", "return / 1000"),
}
"""Aggregates of both suites: a summary of normalised scores."""


def title_of(kind: str) -> str:
    """Return `Median, gamer-normalised`."""
    return ", ".join(KINDS[kind]).capitalize()


class Estimate(NamedTuple):
    """A number and the ends of its interval, nan where there is none."""

    point: float
    low: float = math.nan
    high: float = math.nan


class Profile(NamedTuple):
    """Share of runs whose normalised score is above each threshold; all [P]."""

    thresholds: Floats
    share: Floats
    low: Floats
    high: Floats


class Statistics(NamedTuple):
    """Aggregates of one suite."""

    matrix: Matrix
    aggregates: Mapping[str, Mapping[str, Estimate]]  # by agent, then by kind
    improvement: Mapping[tuple[str, str], Estimate]
    """P(first > second), mean over environments, for each ordered pair of agents."""
    profiles: Mapping[str, Profile]  # by agent, of gamer-normalised scores, or of returns divided by 1000
    has_intervals: bool  # whether rliable was installed

    @property
    def kinds(self) -> list[str]:
        """Keys of `KINDS` in this suite."""
        return list(next(iter(self.aggregates.values())))


def statistics(matrix: Matrix) -> Statistics:
    """Return every aggregate of a suite."""
    try:
        from rliable import library
    except ImportError:
        library = None
    agents = matrix.scores.items()
    return Statistics(
        matrix,
        {agent: _estimates(library, lambda x: _summary(matrix, x), scores) for agent, scores in agents},
        {
            (first, second): _estimates(library, lambda x, y: {"": probability_of_improvement(x, y)}, x, y)[""]
            for (first, x), (second, y) in itertools.permutations(agents, 2)
        },
        _profiles(library, matrix),
        library is not None,
    )


def primary(matrix: Matrix, scores: Floats) -> Floats:
    """Return the normalised scores [seeds, environments] that interquartile mean and profiles are made from."""
    return scores / DMC_MAXIMUM if matrix.suite == "dmc" else _normalised(matrix, scores, gamer_normalised)


def probability_of_improvement(x: Floats, y: Floats) -> float:
    """Return P(X > Y) + P(X = Y) / 2 for a random seed of each [seeds, environments], mean over environments."""
    return float(((x[:, None] > y) + 0.5 * (x[:, None] == y)).mean())


def _normalised(matrix: Matrix, scores: Floats, normalise: Callable[..., Floats]) -> Floats:
    games = [game_scores(name) for name in matrix.environments]
    return np.stack([normalise(scores[:, i], game) for i, game in enumerate(games)], axis=1)


def _summary(matrix: Matrix, scores: Floats) -> dict[str, float]:
    """Return every aggregate of raw scores [seeds, environments]; environments are means over seeds."""
    own = primary(matrix, scores)
    games, iqm = own.mean(0), trim_mean(own, 0.25, axis=None)
    if matrix.suite == "dmc":
        return {"dmc_iqm": iqm, "dmc_median": np.median(games), "dmc_mean": own.mean()}
    record = _normalised(matrix, scores.mean(0, keepdims=True), record_normalised)
    return {
        "gamer_iqm": iqm,
        "gamer_median": np.median(games),
        "gamer_mean": games.mean(),
        "record_mean": record.mean(),
        "clipped_record_mean": np.minimum(record, 1).mean(),
    }


def _estimates(library: Any, function: Callable[..., dict[str, float]], *scores: Floats) -> dict[str, Estimate]:
    """Return named values of scores [seeds, environments], with intervals if rliable and several seeds are there."""
    points = function(*scores)
    ends = np.full((2, len(points)), np.nan)
    if library is not None and min(map(len, scores)) > 1:
        drawn = {"": scores[0] if len(scores) == 1 else list(scores)}
        values = lambda *drawn: np.array(list(function(*drawn).values()))  # noqa: E731
        ends = _seeded(library.get_interval_estimates, drawn, values)
    return {
        name: Estimate(float(point), *map(float, pair))
        for (name, point), pair in zip(points.items(), ends.T, strict=True)
    }


def _profiles(library: Any, matrix: Matrix) -> dict[str, Profile]:
    normalised = {agent: primary(matrix, scores) for agent, scores in matrix.scores.items()}
    lowest = min(0.0, *(scores.min() for scores in normalised.values()))
    highest = max(1.0, *(scores.max() for scores in normalised.values()))
    thresholds = np.linspace(lowest, highest, 201)
    profiles = {}
    for agent, scores in normalised.items():
        share = _shares(scores, thresholds)
        ends = np.full((2, len(share)), np.nan)
        if library is not None and len(scores) > 1:
            profile = partial(library.create_performance_profile, custom_profile_func=_shares)
            ends = _seeded(profile, {"": scores}, thresholds)
        profiles[agent] = Profile(thresholds, share, *ends)
    return profiles


def _shares(scores: Floats, thresholds: Floats) -> Floats:
    return np.asarray((scores[..., None] > thresholds).mean((0, 1)))


def _seeded(bootstrap: Callable[..., Any], *arguments: Any) -> Floats:
    """Return the ends of an rliable bootstrap, which draws from numpy's global generator, restored here."""
    before = np.random.get_state()
    np.random.seed(SEED)
    try:
        return np.asarray(bootstrap(*arguments, reps=REPETITIONS, confidence_interval_size=SIZE)[1][""])
    finally:
        np.random.set_state(before)
