"""Scores made comparable between games, and their summaries over games: pure functions of numbers.

    gamer-normalised    (x - random) / (gamer - random)
    record-normalised   (x - random) / (record - random)
    clipped record      min(record-normalised, 1), per game, before the mean over games
    control suite       x / 1000

An agent's score in a game is its mean over seeds; it is normalised, and then summarised over games.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.analysis.published import BASELINES, GameScores, Variant, atari_curves, atari_scores, game_scores, task

DMC_MAXIMUM = 1000.0  # largest return of a task of the control suite: 1000 steps of reward at most 1
FINAL_FRAMES = 190_000_000  # A published final score is the mean of a run's scores from this many frames on


class Aggregates(NamedTuple):
    """Scores of one agent, summarised over games; nan everywhere without games."""

    games: int
    gamer_median: float
    gamer_mean: float
    record_mean: float
    clipped_record_mean: float


def gamer_normalised(score: ArrayLike, game: GameScores) -> NDArray[np.float64]:
    """Return (x - random) / (gamer - random)."""
    return np.asarray((np.asarray(score, np.float64) - game.random) / (game.gamer - game.random))


def record_normalised(score: ArrayLike, game: GameScores) -> NDArray[np.float64]:
    """Return (x - random) / (record - random)."""
    return np.asarray((np.asarray(score, np.float64) - game.random) / (game.record - game.random))


def normalised_scores(environment: str, score: float) -> dict[str, float]:
    """Return every published normalisation of an environment's score.

    They are `gamer`, `record` and `clipped_record` for the 57 Atari games, `dmc` for the control suite.
    """
    found, game = task(environment), game_scores(environment)
    if game is not None:
        record = float(record_normalised(score, game))
        return {"gamer": float(gamer_normalised(score, game)), "record": record, "clipped_record": min(record, 1.0)}
    return {"dmc": score / DMC_MAXIMUM} if found and found.suite == "dmc" else {}


def aggregate(scores: Mapping[str, float]) -> Aggregates:
    """Summarise an agent's finite scores over Atari games, by the table's name of the game, each a mean over seeds."""
    if not scores:
        return Aggregates(0, *[math.nan] * 4)
    games = atari_scores()
    gamer = [float(gamer_normalised(score, games[name])) for name, score in scores.items()]
    record = [float(record_normalised(score, games[name])) for name, score in scores.items()]
    means = (float(np.mean(values)) for values in (gamer, record, np.minimum(record, 1)))
    return Aggregates(len(scores), float(np.median(gamer)), *means)


def published_scores(agent: str) -> dict[str, float]:
    """Return final scores by game, of `dqn`, `c51`, `rainbow`, `iqn`, or DreamerV2's `schedules` or `release`."""
    games = atari_scores().items()
    found = {name: (game.baselines if agent in BASELINES else game.dreamerv2)[agent] for name, game in games}
    return {name: score for name, score in found.items() if math.isfinite(score)}


def scores_from_curves(variant: Variant) -> dict[str, float]:
    """Return final scores of DreamerV2 by game from the rows of its mean curves: their plain mean from 190M frames on.

    This is the mean over seeds of each run's mean (`published_scores`) where every row has all seeds. Some rows have
    not: few runs of the release reached the last million, and the two then differ a little.
    """
    last = {name: line.mean[line.frames >= FINAL_FRAMES] for name, line in atari_curves(variant).items()}
    return {name: float(values.mean()) for name, values in last.items() if len(values)}
