"""Gradients, trends and speed over training, from the rows of `metrics.jsonl`."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.analysis.curves import Curve, curve
from reverie.analysis.format import Measures
from reverie.config import Config, flatten
from reverie.runs.metrics import observation_losses

LEAST_ROWS = 8  # rows that a trend needs: two quarters of two rows each
CERTAIN_CHANGE = 3.0
"""Standard errors of a change that counts. Rows of one run are correlated: the usual two often see a trend in noise."""
OPTIMIZERS = {"model": "world_model", "actor": "behavior.actor", "critic": "behavior.critic"}
"""Groups of settings with an `optimizer`. The metric of its gradient norm is `NAME/gradient_norm`."""
TRENDS = ("model/reward_loss", "model/discount_loss", "model/kl", "critic/loss", "actor/entropy", "episode/return")
"""Metrics with a trend, after the losses of observations."""
LEARNT = ("model/", "actor/", "critic/", "imagination/")


class Trend(NamedTuple):
    """Direction of a metric in the second half of its rows."""

    latest: float  # mean of the last quarter of its rows
    change: float  # from the mean of the quarter before that
    direction: str  # falling, rising or flat; unknown with fewer than LEAST_ROWS rows


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
    mean, change = float(latest.mean()), float(latest.mean() - before.mean())
    if len(values) < LEAST_ROWS:
        return Trend(mean, change, "unknown")
    variance = float(np.square(np.diff(values[-2 * quarter :])).mean()) / 2
    is_certain = abs(change) > max(CERTAIN_CHANGE * math.sqrt(2 * variance / quarter), 1e-9 * abs(mean))
    return Trend(mean, change, ("rising" if change > 0 else "falling") if is_certain else "flat")


def measure_learning(rows: Sequence[Mapping[str, float]], config: Config) -> Measures:
    """Measure rows of `read_metrics`, with the clips of the configuration."""
    learnt = [row for row in rows if "model/loss" in row or "model/gradient_norm" in row]
    losses = observation_losses(name for row in learnt for name in row if name != "model/loss")
    names = (*losses, *TRENDS, *(f"{name}/gradient_norm" for name in OPTIMIZERS))
    lines = {name: line for name in names if len(line := curve(rows, name))}
    gradients = {}
    for name, path in OPTIMIZERS.items():
        if f"{name}/gradient_norm" in lines:
            line = lines[f"{name}/gradient_norm"]
            clip = flatten(config)[f"{path}.optimizer.max_grad_norm"]
            gradients[name] = Measures(  # norms before clipping; a row is a mean over its updates
                median=float(np.median(line.values)),
                largest=float(line.values.max()),
                clip=clip,  # 0 does not clip
                clipped=float((line.values > clip).mean()) if clip else 0.0,  # share of rows
            )
    return Measures(
        rows=len(learnt),  # with losses
        not_finite=sum(any(n.startswith(LEARNT) and not math.isfinite(x) for n, x in row.items()) for row in learnt),
        skipped=int(max((row.get("train/nonfinite_updates", 0.0) for row in rows), default=0.0)),
        gradients=gradients,  # by optimizer
        trends={name: trend(line) for name, line in lines.items()},
        imagined_reward=_best_and_latest(curve(rows, "imagination/reward_mean").values),
    )


def _best_and_latest(values: NDArray[np.float64]) -> Measures:
    """Return the highest and the latest of the means of eight parts of a curve; nan where it has fewer rows."""
    if len(values) < LEAST_ROWS:
        return Measures(best=math.nan, latest=math.nan)
    means = [float(part.mean()) for part in np.array_split(values, 8)]
    return Measures(best=max(means), latest=means[-1])


def measure_speed(rows: Sequence[Mapping[str, float]]) -> Measures:
    """Average rates and shares of the time over the rows with both steps and updates; nan where there are none."""
    known = [row for row in rows if "perf/fps" in row and "perf/updates_per_second" in row]

    def mean(name: str) -> float:
        return float(np.mean([row.get(name, 0.0) for row in known])) if known else math.nan

    is_async = any("time/wait_share" in row for row in known)  # then collecting takes time only where updates wait
    return Measures(
        frames_per_second=mean("perf/fps"),
        updates_per_second=mean("perf/updates_per_second"),
        collect_share=mean("time/wait_share" if is_async else "time/collect_share"),  # environments and acting
        update_share=mean("time/learn_share"),
    )
