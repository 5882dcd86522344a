"""Aggregates over environments with stratified bootstrap intervals, by rliable (Agarwal et al., 2021).

Seeds are drawn anew, with replacement and in each environment on its own; an interval is the middle 95 % of the
aggregates of these draws. It covers what other seeds would give in the same environments. Without rliable, or with a
single seed, there are point estimates only.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.analysis.comparison import Matrix
from reverie.analysis.published import game_scores
from reverie.analysis.scores import (
    DMC_MAXIMUM,
    clipped,
    gamer_normalised,
    interquartile_mean,
    record_normalised,
)

Floats = NDArray[np.float64]

REPETITIONS = 2000
"""Bootstrap draws."""
SIZE = 0.95
"""Of the intervals."""
SEED = 0
"""Of the draws, so that the same runs give the same report."""
INSTALL = "pip install 'reverie[report]'"
WITHOUT = f"There are no bootstrap intervals, since rliable is not installed; type {INSTALL} and make the report again."

ATARI = ("gamer_iqm", "gamer_median", "gamer_mean", "record_mean", "clipped_record_mean")
DMC = ("dmc_iqm", "dmc_median", "dmc_mean")


class Estimate(NamedTuple):
    """A number and the ends of its interval, nan where there is none."""

    point: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Profile:
    """Share of runs whose normalised score is above each threshold; all [P]."""

    thresholds: Floats
    share: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Statistics:
    """Of one suite."""

    matrix: Matrix
    aggregates: Mapping[str, Mapping[str, Estimate]]
    """By agent, then by kind: those of `ATARI` or `DMC`."""
    improvement: Mapping[tuple[str, str], Estimate]
    """P(first > second), mean over environments, for each ordered pair of agents."""
    profiles: Mapping[str, Profile]
    """Of gamer-normalised scores, or of returns divided by 1000."""
    intervals: bool
    """Whether rliable was there."""


def statistics(matrix: Matrix) -> Statistics:
    """Every aggregate of a suite."""
    library = _rliable()
    kinds = ATARI if matrix.suite == "atari" else DMC
    summary = _summary(matrix)
    aggregates = {}
    for agent, scores in matrix.scores.items():
        point, low, high = _estimate(library, summary, scores)
        aggregates[agent] = {
            kind: Estimate(float(point[i]), float(low[i]), float(high[i])) for i, kind in enumerate(kinds)
        }
    improvement = {
        (first, second): Estimate(*(float(part[0]) for part in _estimate(library, _improvement, x, y)))
        for first, x in matrix.scores.items()
        for second, y in matrix.scores.items()
        if first != second
    }
    return Statistics(matrix, aggregates, improvement, _profiles(library, matrix), library is not None)


def primary(matrix: Matrix, scores: Floats) -> Floats:
    """The normalised scores [seeds, environments] that interquartile mean and profiles are of."""
    if matrix.suite == "dmc":
        return scores / DMC_MAXIMUM
    return _columns(matrix, scores, gamer_normalised)


def probability_of_improvement(x: Floats, y: Floats) -> float:
    """P(X > Y) + P(X = Y) / 2 for a random seed of each, mean over environments.

    Args:
        x: [seeds, environments].
        y: [other seeds, environments].
    """
    first, second = x[:, None], y[None]
    return float(((first > second) + 0.5 * (first == second)).mean())


def _improvement(x: Floats, y: Floats) -> Floats:
    return np.array([probability_of_improvement(x, y)])


def _columns(matrix: Matrix, scores: Floats, normalise: Callable[..., Floats]) -> Floats:
    games = [game_scores(name) for name in matrix.environments]
    return np.stack([normalise(scores[:, i], game) for i, game in enumerate(games)], axis=1)


def _summary(matrix: Matrix) -> Callable[[Floats], Floats]:
    """Function of raw scores [seeds, environments] that computes every aggregate; environments are means over seeds."""

    def atari(scores: Floats) -> Floats:
        gamer = primary(matrix, scores)
        record = _columns(matrix, scores.mean(0, keepdims=True), record_normalised)
        games = gamer.mean(0)
        return np.array(
            [interquartile_mean(gamer), np.median(games), games.mean(), record.mean(), clipped(record).mean()]
        )

    def dmc(scores: Floats) -> Floats:
        share = primary(matrix, scores)
        return np.array([interquartile_mean(share), np.median(share.mean(0)), share.mean()])

    return atari if matrix.suite == "atari" else dmc


def _estimate(library: Any, function: Callable[..., Floats], *scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Value of a function of scores [seeds, environments], and the ends of its interval; each [K]."""
    point = function(*scores)
    if library is None or min(len(one) for one in scores) < 2:
        return point, np.full_like(point, np.nan), np.full_like(point, np.nan)
    with _own_draws():
        _, ends = library.get_interval_estimates(
            {"": scores[0] if len(scores) == 1 else list(scores)},
            function,
            reps=REPETITIONS,
            confidence_interval_size=SIZE,
        )
    return point, *np.asarray(ends[""])


def _profiles(library: Any, matrix: Matrix) -> dict[str, Profile]:
    normalised = {agent: primary(matrix, scores) for agent, scores in matrix.scores.items()}
    lowest = min(0.0, *(scores.min() for scores in normalised.values()))
    highest = max(1.0, *(scores.max() for scores in normalised.values()))
    thresholds = np.linspace(lowest, highest, 201)
    profiles = {}
    for agent, scores in normalised.items():
        share = _shares(scores, thresholds)
        low = high = np.full_like(share, np.nan)
        if library is not None and len(scores) > 1:
            with _own_draws():
                _, ends = library.create_performance_profile(
                    {"": scores}, thresholds, custom_profile_func=_shares, reps=REPETITIONS,
                    confidence_interval_size=SIZE,
                )  # fmt: skip
            low, high = np.asarray(ends[""])
        profiles[agent] = Profile(thresholds, share, low, high)
    return profiles


def _shares(scores: Floats, thresholds: Floats) -> Floats:
    return np.asarray((scores[..., None] > thresholds).mean((0, 1)))


def _rliable() -> Any:
    """The library, or None if it, or what it needs, is not installed."""
    try:
        from rliable import library
    except ImportError:
        return None
    return library


@contextmanager
def _own_draws() -> Iterator[None]:
    """The stratified bootstrap of rliable draws from numpy's global generator; it is seeded here and put back after."""
    before = np.random.get_state()
    np.random.seed(SEED)
    try:
        yield
    finally:
        np.random.set_state(before)
