"""Learning curves from the metrics of runs, smoothed and averaged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMOOTHING = 0.1  # share of the curve that a smoothed point averages


@dataclass(frozen=True)
class Curve:
    """One metric over environment frames; frames rise and values are finite."""

    frames: Floats
    values: Floats

    def __len__(self) -> int:
        return len(self.frames)


def curve(rows: Sequence[Mapping[str, float]], name: str) -> Curve:
    """Return a metric of the rows that have it, without values that are not finite."""
    points = [(row["frames"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
    return Curve(*np.array(sorted(points), np.float64).reshape(-1, 2).T)


def smooth(line: Curve, share: float = SMOOTHING) -> Curve:
    """Return the centred moving average over a share of all frames; near the ends the window shrinks on both sides."""
    if len(line) < 3:
        return line
    to_start, to_end = line.frames - line.frames[0], line.frames[-1] - line.frames
    reach = np.minimum(share * to_end[0] / 2, np.minimum(to_start, to_end))
    first = np.searchsorted(line.frames, line.frames - reach, side="left")
    last = np.searchsorted(line.frames, line.frames + reach, side="right")
    sums = np.concatenate([[0.0], np.cumsum(line.values)])
    return Curve(line.frames, (sums[last] - sums[first]) / (last - first))


def band(lines: Sequence[Curve], points: int = 400) -> tuple[Floats, Floats, Floats, Floats]:
    """Return frames, mean, minimum and maximum of several curves over the frames that all of them cover, each [P].

    Values are interpolated between points. All are empty if the curves do not overlap.
    """
    filled = [line for line in lines if len(line)]
    start = max((line.frames[0] for line in filled), default=0.0)
    end = min((line.frames[-1] for line in filled), default=-1.0)
    if end < start:
        return (np.empty(0),) * 4
    grid = np.unique(np.concatenate([line.frames for line in filled]).clip(start, end))
    grid = np.linspace(start, end, points) if len(grid) > points else grid
    values = np.stack([np.interp(grid, line.frames, line.values) for line in filled])
    return grid, values.mean(0), values.min(0), values.max(0)
