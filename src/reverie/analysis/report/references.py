"""Published scores next to a run's: humans, other agents, and DreamerV2 at the same number of frames."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from reverie.analysis.comparison import Matrix
from reverie.analysis.format import score_text
from reverie.analysis.labels import nearest_preset
from reverie.analysis.published import BASELINES, VARIANTS, Variant, curve, game_scores, task
from reverie.analysis.runs import FINAL_SHARE, Run
from reverie.analysis.scores import aggregate, published_scores
from reverie.config import Config

PAPER_PRESETS = ("atari-paper", "article")
"""Presets of the paper's agent with schedules, and of its predecessor; all others follow the release."""
HUMANS = ("random", "gamer", "record")  # fields of the published scores of a game


def variant_of(config: Config, preset: str | None = None) -> Variant:
    """Return the published variant to compare a run with: the paper's for its own presets, or else the release's.

    A schedule alone does not make an agent the paper's: `atari-laptop` has one and follows the release. Without the
    preset that the run says it was started with, the nearest one counts.
    """
    return "schedules" if nearest_preset(config, preset) in PAPER_PRESETS else "release"


def variants_of(runs: Iterable[Run]) -> tuple[Variant, ...]:
    """Return the published variants to compare these runs with."""
    found = {variant_of(run.config, run.preset) for run in runs}
    return tuple(variant for variant in VARIANTS if variant in found)


def published_at(environment: str, variant: Variant, frames: float) -> float:
    """Return DreamerV2's published score at some number of frames, by the rule for runs: the mean of the last tenth.

    Where the published curve has no point in there, it is interpolated; nan before its first point and without a curve.
    """
    line = curve(environment, variant)
    if line is None:
        return math.nan
    inside = line.mean[(line.frames >= (1 - FINAL_SHARE) * frames) & (line.frames <= frames)]
    if len(inside):
        return float(inside.mean())
    return float(np.interp(frames, line.frames, line.mean, left=math.nan, right=math.nan))


def published_end(environment: str, variant: Variant) -> float:
    """Return DreamerV2's published final score: from 190M frames on, or the last tenth of a control suite's curve."""
    game, line = game_scores(environment), curve(environment, variant)
    if game is not None:
        return game.dreamerv2[variant]
    return math.nan if line is None else published_at(environment, variant, float(line.frames[-1]))


def known_scores(environment: str) -> dict[str, float]:
    """Return the published final scores of humans and other agents, by their headings; empty where there are none."""
    game = game_scores(environment)
    if game is None:
        return {}
    return {name: getattr(game, name) for name in HUMANS} | {BASELINES[name]: x for name, x in game.baselines.items()}


def reference_scores(environment: str, frames: float, variants: Sequence[Variant], has_atari: bool) -> list[str]:
    """Return the cells of a row: humans and agents if the table has columns for Atari, then DreamerV2."""
    known = known_scores(environment)
    numbers = [known.get(heading, math.nan) for heading in (*HUMANS, *BASELINES.values())] if has_atari else []
    for variant in variants:
        numbers += [published_at(environment, variant, frames), published_end(environment, variant)]
    return [score_text(number) for number in numbers]


def reference_aggregates(
    matrix: Matrix, frames: Mapping[str, float], variants: Sequence[Variant]
) -> dict[str, dict[str, float]]:
    """Return the aggregates of published agents with a score in every game of a matrix.

    Variants of DreamerV2 are given at the comparison's frames of each environment, and both at 200M.
    """
    games = {name: found.name for name in matrix.environments if (found := task(name))}
    rows = {f"{heading}, published, 200M": published_scores(name) for name, heading in BASELINES.items()}
    for variant in variants:
        at = {game: published_at(name, variant, frames[name]) for name, game in games.items()}
        rows[f"DreamerV2 ({variant}), published, at the same frames"] = at
    rows |= {f"DreamerV2 ({variant}), published, 200M": published_scores(variant) for variant in VARIANTS}
    return {
        label: aggregate({game: scores[game] for game in games.values()})._asdict()
        for label, scores in rows.items()
        if all(math.isfinite(scores.get(game, math.nan)) for game in games.values())
    }
