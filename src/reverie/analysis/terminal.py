"""A line plot of characters, for the end of a run."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BRAILLE = 0x2800
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
"""Bit of each of the 4 x 2 dots of a Braille character."""


def terminal_curve(points: Sequence[tuple[float, float]], width: int = 60, height: int = 10) -> str:
    """Draw a curve with Braille dots, two across and four down in every character.

    Args:
        points: (environment frames, value); what is not finite is left out. Several values in one column of dots
            are averaged.
        width: characters of every line, axis included.
        height: lines, the one with the frames included.

    Returns:
        `height` lines of at most `width` characters; "(no points yet)" if there is nothing to draw.
    """
    finite = sorted((x, y) for x, y in points if math.isfinite(x) and math.isfinite(y))
    if not finite:
        return "(no points yet)"
    values = [y for _, y in finite]
    low, high = min(values), max(values)
    top, bottom = _label(high), _label(low)
    margin = max(len(top), len(bottom))
    columns, lines = max(width - margin - 2, 2), max(height - 1, 2)
    cells = _rasterize(finite, (low, high), columns * 2, lines * 4)
    # Cells of 4 x 2 dots, each the sum of its dots' bits.
    codes = (cells.reshape(lines, 4, columns, 2) * DOTS[None, :, None, :]).sum(axis=(1, 3))
    labels = {0: top, lines - 1: bottom} if high > low else {lines // 2: top}
    text = []
    for index, row in enumerate(codes):
        label = labels.get(index, "")
        plot = "".join(chr(BRAILLE + int(code)) if code else " " for code in row)
        text.append(f"{label:>{margin}} {'┤' if label else '│'}{plot}".rstrip())
    first, last = _frames(finite[0][0]), _frames(finite[-1][0])
    gap = max(columns - len(first) - len(last), 1)
    text.append(" " * (margin + 2) + f"{first}{' ' * gap}{last}"[:columns])
    return "\n".join(text)


def _rasterize(
    points: Sequence[tuple[float, float]], limits: tuple[float, float], width: int, height: int
) -> NDArray[np.uint8]:
    """Dots [height, width] of a line through the points, which are sorted; the first row is the top."""
    (low, high), (start, end) = limits, (points[0][0], points[-1][0])
    columns: dict[int, list[float]] = {}
    for x, y in points:
        share = (x - start) / (end - start) if end > start else 0.0
        columns.setdefault(round(share * (width - 1)), []).append(y)
    xs = sorted(columns)
    ys = [sum(columns[x]) / len(columns[x]) for x in xs]
    line = np.interp(np.arange(xs[0], xs[-1] + 1), xs, ys)
    heights = (line - low) / (high - low) if high > low else np.full(len(line), 0.5)
    rows = np.rint((1 - heights) * (height - 1)).astype(int)
    dots = np.zeros((height, width), np.uint8)
    previous = rows[0]
    for column, row in zip(range(xs[0], xs[-1] + 1), rows, strict=True):
        # A steep line is a column of dots: from half-way to where it came from.
        middle = (previous + row) // 2
        dots[min(previous, middle) : max(previous, middle) + 1, max(column - 1, xs[0])] = 1
        dots[min(middle, row) : max(middle, row) + 1, column] = 1
        previous = row
    return dots


def _label(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _frames(frames: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(frames) >= size:
            return f"{frames / size:.3g}{unit}"
    return f"{frames:.0f}"
