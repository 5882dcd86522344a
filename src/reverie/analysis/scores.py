"""Scores made comparable between games, and their summaries over games: pure functions of numbers.

    gamer-normalised    (x - random) / (gamer - random)
    record-normalised   (x - random) / (record - random)
    clipped record      min(record-normalised, 1), per game, before the mean over games
    control suite       x / 1000

An agent's score in a game is its mean over seeds; it is normalised, and then summarised over games.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.analysis.published import (
    BASELINES,
    GameScores,
    Variant,
    atari_curves,
    atari_scores,
    game_scores,
    task,
)

DMC_MAXIMUM = 1000.0
"""Largest return of a task of the control suite: 1000 steps of reward at most 1."""
FINAL_FRAMES = 190_000_000
"""A published final score is the mean of a run's scores from this many frames on."""


@dataclass(frozen=True)
class Aggregates:
    """Scores of one agent, summarised over games."""

    games: int
    gamer_median: float
    gamer_mean: float
    record_mean: float
    clipped_record_mean: float


def normalised(score: ArrayLike, low: float, high: float) -> NDArray[np.float64]:
    """(x - low) / (high - low): 0 is as good as `low`, 1 as good as `high`."""
    return np.asarray((np.asarray(score, np.float64) - low) / (high - low))


def gamer_normalised(score: ArrayLike, game: GameScores) -> NDArray[np.float64]:
    """(x - random) / (gamer - random)."""
    return normalised(score, game.random, game.gamer)


def record_normalised(score: ArrayLike, game: GameScores) -> NDArray[np.float64]:
    """(x - random) / (record - random)."""
    return normalised(score, game.random, game.record)


def clipped(score: ArrayLike) -> NDArray[np.float64]:
    """min(x, 1). Scores below those of random play stay negative, as in the published aggregates."""
    return np.asarray(np.minimum(np.asarray(score, np.float64), 1.0))


def normalised_scores(environment: str, score: float) -> dict[str, float]:
    """Every published normalisation that an environment has.

    Args:
        environment: its id.
        score: an undiscounted return of raw rewards, or a mean of them.

    Returns:
        `gamer`, `record` and `clipped_record` for the 57 Atari games, `dmc` for the control suite; empty for others.
    """
    found, game = task(environment), game_scores(environment)
    if game is not None:
        record = float(record_normalised(score, game))
        return {"gamer": float(gamer_normalised(score, game)), "record": record, "clipped_record": min(record, 1.0)}
    return {"dmc": score / DMC_MAXIMUM} if found and found.suite == "dmc" else {}


def aggregate(scores: Mapping[str, float]) -> Aggregates:
    """Summarise an agent's scores over Atari games.

    Args:
        scores: by the table's name of the game, mean over seeds. Scores that are not finite must be left out.

    Returns:
        nan everywhere if there are no games.
    """
    if not scores:
        return Aggregates(0, math.nan, math.nan, math.nan, math.nan)
    games = atari_scores()
    gamer = np.array([gamer_normalised(score, games[name]) for name, score in scores.items()])
    record = np.array([record_normalised(score, games[name]) for name, score in scores.items()])
    return Aggregates(
        games=len(scores),
        gamer_median=float(np.median(gamer)),
        gamer_mean=float(gamer.mean()),
        record_mean=float(record.mean()),
        clipped_record_mean=float(clipped(record).mean()),
    )


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all scores: the lowest and the highest quarter, floor(n / 4) each, are left out."""
    values = np.sort(np.asarray(scores, np.float64), axis=None)
    cut = len(values) // 4
    return float(values[cut : len(values) - cut].mean()) if len(values) else math.nan


def published_scores(agent: str) -> dict[str, float]:
    """Final scores by game, of `dqn`, `c51`, `rainbow`, `iqn`, or DreamerV2's `schedules` or `release`."""
    found = {
        name: game.baselines[agent] if agent in BASELINES else game.dreamerv2[agent]
        for name, game in atari_scores().items()
    }
    return {name: score for name, score in found.items() if math.isfinite(score)}


def scores_from_curves(variant: Variant) -> dict[str, float]:
    """Final scores of DreamerV2 by game, from the rows of its mean curves: their plain mean from 190M frames on.

    This is the mean over seeds of each run's mean (`published_scores`) where every row has all seeds. Some rows have
    not: few runs of the release reached the last million, and the two then differ a little.
    """
    found = {}
    for name, line in atari_curves(variant).items():
        last = line.frames >= FINAL_FRAMES
        if last.any():
            found[name] = float(line.mean[last].mean())
    return found
