"""How learning has gone so far, from the rows of `metrics.jsonl`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reverie.analysis.curves import Curve, curve
from reverie.config import Config
from reverie.runs.metrics import observation_losses

Rows = Sequence[Mapping[str, float]]

LEAST_ROWS = 8
"""Rows that a trend needs: two quarters of two rows each."""
CERTAIN_CHANGE = 3.0
"""A change counts as one if it is this many standard errors large. Rows of one run are not independent, so the usual
two would often see a trend in noise."""
NORMS = {
    "model": "model/gradient_norm",
    "actor": "actor/gradient_norm",
    "critic": "critic/gradient_norm",
}
ALSO_FOLLOWED = (
    "model/reward_loss",
    "model/discount_loss",
    "model/kl",
    "critic/loss",
    "actor/entropy",
)


@dataclass(frozen=True)
class Trend:
    """Where a metric goes in the second half of its rows."""

    latest: float
    """Mean of the last quarter of its rows."""
    before: float
    """Mean of the quarter before that."""
    direction: str
    """falling, rising or flat; unknown with fewer than `LEAST_ROWS` rows."""

    def texts(self) -> tuple[str, str]:
        """Format `latest` and `before` with the same decimals: four digits, and up to seven to show the change."""
        size, change = max(abs(self.latest), abs(self.before)), abs(self.latest - self.before)
        if not 1e-4 <= size < math.inf:
            return f"{self.latest:.4g}", f"{self.before:.4g}"
        decimals = 3 - math.floor(math.log10(size))
        if change > 0:
            decimals = max(decimals, min(1 - math.floor(math.log10(change)), decimals + 3))
        decimals = max(decimals, 0)
        return f"{self.latest:.{decimals}f}", f"{self.before:.{decimals}f}"


@dataclass(frozen=True)
class Gradients:
    """The gradient norm of one of the three optimizers, before clipping. A row is a mean over its updates."""

    median: float
    largest: float
    clip: float
    """The optimizer's `clip`; 0 does not clip."""
    clipped: float
    """Share of rows whose mean norm exceeds the clip."""
    trend: Trend


@dataclass(frozen=True)
class Learning:
    """All of it; empty where nothing was recorded yet."""

    rows: int
    """Rows with losses."""
    not_finite: int
    """How many of them have a metric of model or behavior that is not a finite number."""
    skipped: int
    """Updates in which something did not learn, because a loss or its gradients were not finite."""
    gradients: dict[str, Gradients]
    """By optimizer: model, actor, critic."""
    trends: dict[str, Trend]
    """By metric."""
    returns: dict[str, float]
    """Mean of the last three values of `train/return` and `eval/return`, raw."""


def trend(line: Curve) -> Trend:
    """Compare the last quarter of the rows with the quarter before.

        change = mean(last) - mean(before),   standard error = sqrt(2 Var / n) for n rows a quarter

    Both variances are half the mean squared difference of neighbouring rows, so that a slope does not count as noise
    (von Neumann).
    """
    values = line.values
    quarter = len(values) // 4
    latest = values[len(values) - max(quarter, 1) :]
    before = values[len(values) - 2 * max(quarter, 1) : len(values) - max(quarter, 1)]
    if len(values) < LEAST_ROWS:
        first = float(before.mean()) if len(before) else float(latest.mean())
        return Trend(float(latest.mean()), first, "unknown")
    change = float(latest.mean() - before.mean())
    half = values[-2 * quarter :]
    variance = float(np.square(np.diff(half)).mean()) / 2
    error = math.sqrt(2 * variance / quarter)
    certain = abs(change) > CERTAIN_CHANGE * error and abs(change) > 1e-9 * abs(float(before.mean()))
    direction = ("rising" if change > 0 else "falling") if certain else "flat"
    return Trend(float(latest.mean()), float(before.mean()), direction)


def measure_learning(rows: Rows, config: Config) -> Learning:
    """All of `Learning`.

    Args:
        rows: from `read_metrics`.
        config: of the run, for the clips.
    """
    learnt = [row for row in rows if "model/loss" in row or "model/gradient_norm" in row]
    clips = {
        "model": config.world_model.optimizer.max_grad_norm,
        "actor": config.behavior.actor.optimizer.max_grad_norm,
        "critic": config.behavior.critic.optimizer.max_grad_norm,
    }
    gradients = {}
    for name, metric in NORMS.items():
        line = curve(rows, metric)
        if len(line):
            above = float((line.values > clips[name]).mean()) if clips[name] else 0.0
            gradients[name] = Gradients(
                float(np.median(line.values)), float(line.values.max()), clips[name], above, trend(line)
            )
    names = [*observation_losses(name for row in learnt for name in row if name != "model/loss"), *ALSO_FOLLOWED]
    lines = {name: curve(rows, name) for name in names}
    returns = {name: curve(rows, name).values[-3:] for name in ("train/return", "eval/return")}
    return Learning(
        rows=len(learnt),
        not_finite=sum(any(not math.isfinite(value) for name, value in row.items() if _learnt(name)) for row in learnt),
        skipped=int(max((row.get("train/nonfinite_updates", 0.0) for row in rows), default=0.0)),
        gradients=gradients,
        trends={name: trend(line) for name, line in lines.items() if len(line)},
        returns={name: float(values.mean()) for name, values in returns.items() if len(values)},
    )


def _learnt(name: str) -> bool:
    return name.startswith(("model/", "actor/", "critic/", "imagination/"))
