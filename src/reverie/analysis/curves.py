"""Learning curves from the metrics of runs, smoothed and averaged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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


def smooth(line: Curve, share: float = 0.1, rows: int | None = None) -> Curve:
    """Return the centred moving average over a share of all rows, or so many; it shrinks near both ends."""
    index, last = np.arange(len(line)), len(line) - 1
    reach = np.minimum(int(rows or share * len(line)) // 2, np.minimum(index, last - index))
    sums = np.concatenate([[0.0], np.cumsum(line.values)])
    return Curve(line.frames, (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1))


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
