"""A line plot of characters, for the end of a run."""

import math
from collections.abc import Sequence

import numpy as np

from reverie.analysis.format import frames_text

DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""Bit of each of the 4 x 2 dots of a Braille character, whose code is 0x2800 plus their sum."""


def terminal_curve(points: Sequence[tuple[float, float]], width: int = 60, height: int = 10) -> str:
    """Draw points (environment frames, value) with Braille dots, two across and four down in every character.

    What is not finite is left out; values in one column of dots are averaged. The result has `height` lines, frames
    included, of at most `width` characters, or is "(no points yet)".
    """
    finite = np.array(sorted(point for point in points if all(map(math.isfinite, point))))
    if not len(finite):
        return "(no points yet)"
    x, y = finite.T
    low, high = y.min(), y.max()
    top, bottom = (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" for value in (high, low))
    margin = max(len(top), len(bottom))
    columns, lines = max(width - margin - 2, 2), max(height - 1, 2)
    column = np.rint((x - x[0]) / ((x[-1] - x[0]) or 1) * (2 * columns - 1)).astype(int)
    filled = np.unique(column)
    across = np.arange(filled[0], filled[-1] + 1)
    line = np.interp(across, filled, [y[column == one].mean() for one in filled])
    share = (line - low) / (high - low) if high > low else np.full(len(line), 0.5)
    rows = np.rint((1 - share) * (4 * lines - 1)).astype(int)
    dots = np.zeros((4 * lines, 2 * columns), int)
    before = rows[0]
    for place, row in zip(across, rows, strict=True):
        middle = (before + row) // 2  # a steep line fills half of its column, and half of the one before
        dots[min(before, middle) : max(before, middle) + 1, max(place - 1, across[0])] = 1
        dots[min(middle, row) : max(middle, row) + 1, place] = 1
        before = row
    codes = (dots.reshape(lines, 4, columns, 2) * DOTS[:, None]).sum(axis=(1, 3))
    labels = {0: top, lines - 1: bottom} if high > low else {lines // 2: top}
    text = []
    for index, cells in enumerate(codes.tolist()):
        axis = "┤" if index in labels else "│"
        plot = "".join(chr(0x2800 + code) if code else " " for code in cells)
        text.append(f"{labels.get(index, ''):>{margin}} {axis}{plot}".rstrip())
    first, last = frames_text(x[0]), frames_text(x[-1])
    gap = max(columns - len(first) - len(last), 1)
    return "\n".join([*text, " " * (margin + 2) + f"{first}{' ' * gap}{last}"[:columns]])
