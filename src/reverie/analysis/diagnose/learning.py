"""Gradients and trends over training, from the rows of `metrics.jsonl`."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from reverie.analysis.curves import Curve, curve
from reverie.analysis.format import Measures
from reverie.config import Config, flatten
from reverie.runs.metrics import observation_losses

OFTEN = 0.5  # share of rows with a clipped gradient above which the clip sets the step
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
LEARNT = ("model/", "actor/", "critic/", "imagination/")


class Trend(NamedTuple):
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


def measure_learning(rows: Sequence[Mapping[str, float]], config: Config) -> Measures:
    """Measure rows of `read_metrics`, with the clips of the configuration."""
    learnt = [row for row in rows if "model/loss" in row or "model/gradient_norm" in row]
    losses = observation_losses(name for row in learnt for name in row if name != "model/loss")
    names = (*losses, *TRENDS, *RETURNS, *(f"{name}/gradient_norm" for name in OPTIMIZERS))
    lines = {name: line for name in names if len(line := curve(rows, name))}
    gradients = {}
    for name, path in OPTIMIZERS.items():
        if f"{name}/gradient_norm" in lines:
            line = lines[f"{name}/gradient_norm"]
            clip = flatten(config)[f"{path}.max_grad_norm"]
            gradients[name] = Measures(  # norms before clipping; a row is a mean over its updates
                median=float(np.median(line.values)),
                largest=float(line.values.max()),
                clip=clip,  # 0 does not clip
                clipped=float((line.values > clip).mean()) if clip else 0.0,  # share of rows
                trend=trend(line),
            )
    return Measures(
        rows=len(learnt),  # with losses
        not_finite=sum(any(n.startswith(LEARNT) and not math.isfinite(x) for n, x in row.items()) for row in learnt),
        skipped=int(max((row.get("train/nonfinite_updates", 0.0) for row in rows), default=0.0)),
        gradients=gradients,  # by optimizer
        trends={name: trend(lines[name]) for name in (*losses, *TRENDS) if name in lines},
        returns={name: float(lines[name].values[-3:].mean()) for name in RETURNS if name in lines},
    )
