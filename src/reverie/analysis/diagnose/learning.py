"""Gradients and trends over training, from the rows of `metrics.jsonl`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reverie.analysis.curves import Curve, curve
from reverie.config import Config
from reverie.runs.metrics import observation_losses

Rows = Sequence[Mapping[str, float]]

OFTEN = 0.5  # share of rows that is more often than not
LEAST_ROWS = 8  # rows that a trend needs: two quarters of two rows each
CERTAIN_CHANGE = 3.0
"""Standard errors of a change that counts. Rows of one run are correlated: the usual two often see a trend in noise."""
OPTIMIZERS = {
    "model": "world_model.optimizer",
    "actor": "behavior.actor.optimizer",
    "critic": "behavior.critic.optimizer",
}
"""The settings of each optimizer. The metric of its gradient norm is `NAME/gradient_norm`."""
TRENDS = ("model/reward_loss", "model/discount_loss", "model/kl", "critic/loss", "actor/entropy")
"""Metrics with a trend, after the losses of observations."""
RETURNS = ("episode/return", "eval/return")


@dataclass(frozen=True)
class Trend:
    """Direction of a metric in the second half of its rows."""

    latest: float  # mean of the last quarter of its rows
    before: float  # mean of the quarter before that
    direction: str  # falling, rising or flat; unknown with fewer than LEAST_ROWS rows

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
    """Gradient norm of one optimizer before clipping; a row is a mean over its updates."""

    median: float
    largest: float
    clip: float  # the optimizer's `max_grad_norm`; 0 does not clip
    clipped: float  # share of rows whose norm exceeds it
    trend: Trend

    @property
    def is_often_clipped(self) -> bool:
        """True if most rows are clipped: the clip then sets the step."""
        return self.clipped > OFTEN


@dataclass(frozen=True)
class Learning:
    """The metrics of a run; empty where nothing was recorded yet."""

    rows: int  # with losses
    not_finite: int  # of them, with a metric of an update that is not a finite number
    skipped: int  # updates that were skipped, because a loss or its gradients were not finite
    gradients: dict[str, Gradients]  # by optimizer
    trends: dict[str, Trend]  # by metric
    returns: dict[str, float]  # mean of the last three values of RETURNS


def trend(line: Curve) -> Trend:
    """Compare the last quarter of the rows with the quarter before.

        change = mean(last) - mean(before),   standard error = sqrt(2 Var / n) for n rows a quarter

    Both variances are half the mean squared difference of neighbouring rows, so that a slope does not count as noise
    (von Neumann).
    """
    values = line.values
    quarter = max(len(values) // 4, 1)
    latest = values[-quarter:]
    before = values[-2 * quarter : -quarter] if len(values) > quarter else latest
    means = float(latest.mean()), float(before.mean())
    if len(values) < LEAST_ROWS:
        return Trend(*means, "unknown")
    change = means[0] - means[1]
    variance = float(np.square(np.diff(values[-2 * quarter :])).mean()) / 2
    is_certain = abs(change) > max(CERTAIN_CHANGE * math.sqrt(2 * variance / quarter), 1e-9 * abs(means[1]))
    return Trend(*means, ("rising" if change > 0 else "falling") if is_certain else "flat")


def measure_learning(rows: Rows, config: Config) -> Learning:
    """Return all of `Learning`, from rows of `read_metrics` and the clips of the configuration."""
    learnt = [row for row in rows if "model/loss" in row or "model/gradient_norm" in row]
    clips = {
        "model": config.world_model.optimizer.max_grad_norm,
        "actor": config.behavior.actor.optimizer.max_grad_norm,
        "critic": config.behavior.critic.optimizer.max_grad_norm,
    }
    norms = {name: curve(rows, f"{name}/gradient_norm") for name in OPTIMIZERS}
    losses = observation_losses(name for row in learnt for name in row if name != "model/loss")
    trends = {name: curve(rows, name) for name in (*losses, *TRENDS)}
    returns = {name: curve(rows, name).values[-3:] for name in RETURNS}
    return Learning(
        rows=len(learnt),
        not_finite=sum(any(_is_broken(*item) for item in row.items()) for row in learnt),
        skipped=int(max((row.get("train/nonfinite_updates", 0.0) for row in rows), default=0.0)),
        gradients={name: _gradients(line, clips[name]) for name, line in norms.items() if len(line)},
        trends={name: trend(line) for name, line in trends.items() if len(line)},
        returns={name: float(values.mean()) for name, values in returns.items() if len(values)},
    )


def _is_broken(name: str, value: float) -> bool:
    return name.startswith(("model/", "actor/", "critic/", "imagination/")) and not math.isfinite(value)


def _gradients(line: Curve, clip: float) -> Gradients:
    values = line.values
    clipped = float((values > clip).mean()) if clip else 0.0
    return Gradients(float(np.median(values)), float(values.max()), clip, clipped, trend(line))
