"""Scores made comparable between games, their summaries over games, and published scores to compare them with.

    gamer-normalised    (x - random) / (gamer - random)
    record-normalised   (x - random) / (record - random)
    clipped record      min(record-normalised, 1), per game, before the mean over games
    control suite       x / 1000

An agent's score in a game is its mean over seeds; it is normalised, and then summarised over games.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reverie.analysis import published
from reverie.analysis.published import (
    BASELINES,
    STICKY_ACTIONS,
    VARIANTS,
    GameScores,
    Variant,
    atari_scores,
    game_scores,
)
from reverie.analysis.runs import FINAL_SHARE, Run

Floats = NDArray[np.float64]

DMC_MAXIMUM = 1000.0  # largest return of a task of the control suite: 1000 steps of reward at most 1
PAPER_PRESETS = ("atari-paper", "article")
"""Presets of the paper's agent with schedules, and of its predecessor; all others follow the release."""
NAMES = {
    "gamer": "gamer-normalised",
    "record": "record-normalised",
    "clipped_record": "record-normalised, clipped at 1",
    "dmc": "of the largest possible return, 1000",
}


def normalised_scores(environment: str, score: float) -> dict[str, float]:
    """Return every published normalisation of an environment's score.

    They are `gamer`, `record` and `clipped_record` for the 57 Atari games, `dmc` for the control suite.
    """
    found, game = published.task(environment), game_scores(environment)
    if game is not None:
        gamer, record = ((score - game.random) / (human - game.random) for human in (game.gamer, game.record))
        return {"gamer": gamer, "record": record, "clipped_record": min(record, 1.0)}
    return {"dmc": score / DMC_MAXIMUM} if found else {}


def atari_aggregates(scores: Floats, games: Sequence[GameScores]) -> dict[str, float]:
    """Return every aggregate of raw scores [seeds, games]; the score of a game is its mean over seeds."""
    random, gamer, record = np.array([(game.random, game.gamer, game.record) for game in games]).T
    by_gamer = (scores - random) / (gamer - random)
    by_record = (scores.mean(0) - random) / (record - random)
    return {
        "gamer_iqm": float(stats.trim_mean(by_gamer, 0.25, axis=None)),
        "gamer_median": float(np.median(by_gamer.mean(0))),
        "gamer_mean": float(by_gamer.mean()),
        "record_mean": float(by_record.mean()),
        "clipped_record_mean": float(np.minimum(by_record, 1).mean()),
    }


def dmc_aggregates(returns: Floats) -> dict[str, float]:
    """Return every aggregate of returns [seeds, tasks] of the control suite."""
    scores = returns / DMC_MAXIMUM
    iqm = float(stats.trim_mean(scores, 0.25, axis=None))
    return {"dmc_iqm": iqm, "dmc_median": float(np.median(scores.mean(0))), "dmc_mean": float(scores.mean())}


def aggregate(scores: Mapping[str, float]) -> dict[str, float]:
    """Return each of `AGGREGATES` of an agent's scores by the table's name of the game, each a mean over seeds."""
    found = atari_aggregates(np.array([[*scores.values()]]), [atari_scores()[name] for name in scores])
    return {kind: found[kind] for kind in published.AGGREGATES}


def published_scores(agent: str) -> dict[str, float]:
    """Return final scores by game, of `dqn`, `c51`, `rainbow`, `iqn`, or DreamerV2's `schedules` or `release`."""
    return {name: game.agents[agent] for name, game in atari_scores().items() if math.isfinite(game.agents[agent])}


def table_1() -> dict[str, Mapping[str, Mapping[str, float]]]:
    """Return the paper's Table 1, its recomputation, and recomputed minus paper, each by agent and kind."""
    paper = published.paper_table()
    ours = {name: aggregate(published_scores(name)) for name in paper}
    difference = {name: {kind: ours[name][kind] - paper[name][kind] for kind in paper[name]} for name in paper}
    return {"paper": paper, "recomputed": ours, "difference": difference}


def variants_of(runs: Iterable[Run]) -> tuple[Variant, ...]:
    """Return the published variants to compare runs with: the paper's for its own presets, the release's for others.

    A schedule alone does not make an agent the paper's: `atari-laptop` has one and follows the release.
    """
    found = {"schedules" if run.label.split(", ")[0] in PAPER_PRESETS else "release" for run in runs}
    return tuple(variant for variant in VARIANTS if variant in found)


def published_at(environment: str, variant: Variant, frames: float) -> float:
    """Return DreamerV2's published score at some number of frames, by the rule for runs: the mean of the last tenth.

    Where the published curve has no point in there, it is interpolated; nan before its first point and without a curve.
    """
    line = published.curve(environment, variant)
    if line is None:
        return math.nan
    inside = line.mean[(line.frames >= (1 - FINAL_SHARE) * frames) & (line.frames <= frames)]
    if len(inside):
        return float(inside.mean())
    return float(np.interp(frames, line.frames, line.mean, left=math.nan, right=math.nan))


def references(environment: str, frames: float, variants: Iterable[Variant]) -> dict[str, float]:
    """Return published scores of humans, of agents at 200M frames, and of DreamerV2, by their headings.

    DreamerV2's are at the same frames, and final: from 190M frames on, or the last tenth of a control suite's curve.
    """
    game, found = game_scores(environment), {}
    if game is not None:
        found = {"random": game.random, "gamer": game.gamer, "record": game.record}
        found |= {heading: game.agents[name] for name, heading in BASELINES.items()}
    for variant in variants:
        if (line := published.curve(environment, variant)) is not None:
            end = game.agents[variant] if game else published_at(environment, variant, float(line.frames[-1]))
            found[f"DreamerV2 ({variant}), same frames"] = published_at(environment, variant, frames)
            found[f"DreamerV2 ({variant}), final"] = end
    return found


def with_published(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result of `evaluate_policy` with its normalised scores, by kind, and the published scores.

    Both are empty for an environment without published scores.
    """
    game, normalised = game_scores(result["env"]), normalised_scores(result["env"], result["mean"])
    known = {"random": game.random, "human_gamer": game.gamer, "human_record": game.record} if game else {}
    return {**result, "normalised": normalised, "references": known}


def protocol_line(result: Mapping[str, Any]) -> str:
    """Return how the episodes of an evaluation were played."""
    protocol = result["protocol"]
    sticky, limit = protocol["sticky_actions"], protocol["time_limit"]
    sticky_text = "" if sticky is None else f"sticky actions p={sticky:g}, "
    limit_text = f" (up to {limit:,} steps)" if limit else ""
    seed = f"seed {result['seed']} ({protocol['seed']}), checkpoint of step {result['agent_steps']:,}"
    return f"{sticky_text}mode actions, sampled latents, whole episodes{limit_text}, {seed}"


def cautions(result: Mapping[str, Any]) -> list[str]:
    """Return sentences that a reader of the numbers must know."""
    sticky = result["protocol"]["sticky_actions"]
    if not result["references"] or sticky in (None, STICKY_ACTIONS):
        return []
    return [f"The published scores are of sticky actions p={STICKY_ACTIONS:g}, these are of p={sticky:g}."]
