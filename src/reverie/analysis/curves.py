"""Learning curves from the metrics of runs, smoothed and averaged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind eyes can tell apart; its yellow is too light for paper."""
SUFFIXES = (".svg", ".png", ".pdf")
SMOOTHING = 0.1
"""A smoothed point averages this share of the curve around it."""


@dataclass(frozen=True)
class Curve:
    """One metric over environment frames; frames rise and values are finite."""

    frames: Floats
    values: Floats

    def __len__(self) -> int:
        return len(self.frames)


def curve(rows: Sequence[Mapping[str, float]], name: str) -> Curve:
    """The rows that have this metric, without those that are not finite."""
    points = [(row["frames"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
    array = np.array(sorted(points), np.float64).reshape(-1, 2)
    return Curve(array[:, 0], array[:, 1])


def smooth(line: Curve, share: float = SMOOTHING) -> Curve:
    """Centred moving average over a window of frames, which does not shift the curve as a running mean would.

    Args:
        line: the curve.
        share: width of the window, as a share of the whole. Near the ends it shrinks evenly on both sides.
    """
    if len(line) < 3:
        return line
    half = share * (line.frames[-1] - line.frames[0]) / 2
    reach = np.minimum(half, np.minimum(line.frames - line.frames[0], line.frames[-1] - line.frames))
    first = np.searchsorted(line.frames, line.frames - reach, side="left")
    last = np.searchsorted(line.frames, line.frames + reach, side="right")
    sums = np.concatenate([[0.0], np.cumsum(line.values)])
    return Curve(line.frames, (sums[last] - sums[first]) / (last - first))


def band(lines: Sequence[Curve], points: int = 400) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, least and greatest of several curves, over the frames that all of them have.

    Returns:
        Frames, mean, minimum and maximum, each [P]; curves are interpolated in between. Empty if they do not overlap.
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
