"""Contact sheet of a recording: frames of some of its episodes, in rows from their first to their last step."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reverie.data.episodes import Episode
from reverie.runs.atomic_io import atomic_path

GROUND, INK, FAINT = (24, 25, 28), (222, 222, 218), (140, 141, 145)
TILE = 112
"""Pixels of a frame's side."""
GAP, LABEL, LINE = 8, 122, 18
FONT: Any = ImageFont.load_default(13)


class ContactSheet:
    """Frames of episodes, gathered while a recording is read.

    Args:
        key: observation that is shown.
        rows: most episodes that are drawn; of more, some at equal distances.
        columns: most frames of an episode.
    """

    def __init__(self, key: str, rows: int = 8, columns: int = 8) -> None:
        self._key, self._max_rows, self._columns = key, rows, columns
        self._every = 1
        self._rows: list[tuple[list[str], list[int], NDArray[np.uint8]]] = []

    def add(self, number: int, episode: Episode) -> None:
        """Take the frames of an episode; the episodes are numbered from 0."""
        if number % self._every:
            return
        if len(self._rows) == 2 * self._max_rows:
            self._rows, self._every = self._rows[::2], 2 * self._every
            if number % self._every:
                return
        length = len(episode["action"])
        times = np.unique(np.linspace(0, length - 1, self._columns).round().astype(int))
        end = "terminal" if episode["is_terminal"][-1] else "cut short"
        total = float(episode["reward"].sum(dtype=np.float64))
        lines = [f"episode {number}", f"return {total:.6g}", f"{length - 1:,} steps", end]
        self._rows.append((lines, times.tolist(), episode[self._key][times]))

    def save(self, path: Path) -> Path:
        """Draw the sheet into a PNG."""
        count = min(self._max_rows, len(self._rows))
        chosen = np.linspace(0, len(self._rows) - 1, count).round().astype(int)
        rows = [self._rows[index] for index in chosen]
        columns, step_y = max(len(times) for _, times, _ in rows), TILE + LINE + GAP
        size = (GAP + LABEL + columns * (TILE + GAP), GAP + len(rows) * step_y)
        sheet = Image.new("RGB", size, GROUND)
        draw = ImageDraw.Draw(sheet)
        for row, (lines, times, frames) in enumerate(rows):
            top = GAP + row * step_y
            for index, line in enumerate(lines):
                draw.text((GAP + 4, top + 2 + index * LINE), line, FAINT if index else INK, FONT)
            for column, (time, frame) in enumerate(zip(times, frames, strict=True)):
                left = GAP + LABEL + column * (TILE + GAP)
                sheet.paste(_picture(frame), (left, top))
                draw.text((left + TILE // 2, top + TILE + 2), str(time), FAINT, FONT, anchor="ma")
        with atomic_path(path) as temporary:
            sheet.save(temporary, "PNG")
        return path


def _picture(frame: NDArray[np.uint8]) -> Image.Image:
    """Return a frame as a tile: three channels are colours, of others the first is shown, as in videos of dreams."""
    shown = frame if frame.shape[2] == 3 else frame[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(shown)).convert("RGB").resize((TILE, TILE), Image.Resampling.NEAREST)
