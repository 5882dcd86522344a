"""What stands beside a run's score: humans, published agents, and DreamerV2 at the same number of frames."""

import math
from collections.abc import Iterable

import numpy as np

from reverie.analysis.labels import nearest_preset
from reverie.analysis.published import BASELINES, VARIANTS, Variant, curve, game_scores
from reverie.analysis.runs import FINAL_SHARE, Run
from reverie.config import Config

PAPER_PRESETS = ("atari-paper", "article")
"""Presets of the paper's agent with schedules, and of its predecessor; all others follow the release."""
HUMANS = {"random": "random", "gamer": "gamer", "record": "record"}
"""Fields of the published scores of a game, and their headings."""


def variant_of(config: Config, preset: str | None = None) -> Variant:
    """Return the published variant to compare a run with: the paper's for its own presets, or else the release's.

    A schedule alone does not make an agent the paper's: `atari-laptop` has one and follows the release.

    Args:
        config: of the run.
        preset: that the run says it was started with; None looks for the nearest.
    """
    return "schedules" if nearest_preset(config, preset) in PAPER_PRESETS else "release"


def variants_of(runs: Iterable[Run]) -> tuple[Variant, ...]:
    """Return the published variants to compare these runs with."""
    found = {variant_of(run.config, run.preset) for run in runs}
    return tuple(variant for variant in VARIANTS if variant in found)


def published_at(environment: str, variant: Variant, frames: float) -> float:
    """DreamerV2's published score at some number of frames, by the rule for runs: the mean of the last tenth.

    Where the published curve has no point in there, it is interpolated; nan before its first point and without a curve.
    """
    line = curve(environment, variant)
    if line is None:
        return math.nan
    inside = line.mean[(line.frames >= (1 - FINAL_SHARE) * frames) & (line.frames <= frames)]
    if len(inside):
        return float(inside.mean())
    if not line.frames[0] <= frames <= line.frames[-1]:
        return math.nan
    return float(np.interp(frames, line.frames, line.mean))


def published_end(environment: str, variant: Variant) -> float:
    """DreamerV2's published final score: Atari from 190M frames on, control suite the last tenth of its curve."""
    game = game_scores(environment)
    if game is not None:
        return game.dreamerv2[variant]
    line = curve(environment, variant)
    return math.nan if line is None else published_at(environment, variant, float(line.frames[-1]))


def known_scores(environment: str) -> dict[str, float]:
    """Published final scores of humans and other agents, by their headings; empty where there are none."""
    game = game_scores(environment)
    if game is None:
        return {}
    humans = {heading: float(getattr(game, field)) for field, heading in HUMANS.items()}
    return humans | {heading: game.baselines[name] for name, heading in BASELINES.items()}
