"""Metrics of a run, read from its `metrics.jsonl`."""

import json
import math
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.errors import RunError
from reverie.runs.layout import METRICS

COUNTERS = ("step", "frames", "time", "updates")
"""Present in every row: agent steps, environment frames, wall seconds of the run, updates."""


class Evaluation(NamedTuple):
    """Episodes played with the actor's mode at one step of a run."""

    step: int
    """Agent steps."""
    frames: int
    returns: tuple[float, ...]
    """Undiscounted, of raw rewards."""
    lengths: tuple[int, ...]
    """Agent steps."""


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the rows, oldest first; what was written as null is nan.

    A last line that was cut short (the run was killed, or is writing it now) is left out, and so are lists, which
    `read_evaluations` reads.

    Args:
        path: the `metrics.jsonl`, or the run folder that holds it.

    Raises:
        RunError: if there is no such file, or a line before the last is damaged.
    """
    return [
        {name: math.nan if value is None else value for name, value in row.items() if type(value) is not list}
        for row in _read_rows(path)
    ]


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return each metric as an array with one entry per row; nan where a row lacks it. See `read_metrics`."""
    rows = read_metrics(path)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, math.nan) for row in rows], np.float64) for name in names}


def read_evaluations(path: Path) -> list[Evaluation]:
    """Return the evaluations, oldest first, with the return of each episode. See `read_metrics`."""
    return [
        Evaluation(row["step"], row["frames"], tuple(row["eval/returns"]), tuple(map(int, row["eval/lengths"])))
        for row in _read_rows(path)
        if "eval/returns" in row
    ]


def observation_losses(names: Iterable[str]) -> list[str]:
    """Return the metrics of how well observations are reconstructed, `model/KEY_loss`; `image` first."""
    others = {"model/reward_loss", "model/discount_loss", "model/kl_loss"}
    losses = {name for name in names if name.startswith("model/") and name.endswith("_loss")} - others
    return sorted(losses, key=lambda name: (name != "model/image_loss", name))


def kept_rows(path: Path, rows: int | None = None, step: float = math.inf, update: float = math.inf) -> list[str]:
    """Return the lines of a metrics file that a resumed run keeps; those after the first `rows` are not read.

    Raises:
        RunError: if one of them is damaged.
    """
    if not path.exists():
        return []
    known = islice(_parse(path), rows or None)
    return [line + "\n" for line, row in known if row["step"] <= step and row.get("updates", 0) <= update]


class MetricsTail:
    """Reads a metrics file as it grows. One that was replaced or shortened is read from its beginning.

    Args:
        path: the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = self._offset = 0

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Return whether the file is read from its beginning, and its new rows; other lines are skipped."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                restarted = status.st_ino != self._inode or status.st_size < self._offset
                if restarted:
                    self._inode, self._offset = status.st_ino, 0
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return False, []
        data = data[: data.rfind(b"\n") + 1]  # Its last line may still be written.
        self._offset += len(data)
        rows = [_parse_line(line) for line in data.decode(errors="replace").splitlines()]
        return restarted, [row for row in rows if row is not None]


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    path = Path(path)
    path = path / METRICS if path.is_dir() else path
    if not path.is_file():
        raise RunError(f"There are no metrics at {path}. Give the folder of a run that has written {METRICS}.")
    for _, row in _parse(path):
        yield row


def _parse(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line and its row; a last line that was cut short is left out."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for index, line in enumerate(lines):
        row = _parse_line(line)
        if row is not None:
            yield line, row
        elif index < len(lines) - 1 or _is_json(line):
            raise RunError(
                f"{path}, line {index + 1} is damaged: it is not a row of metrics. Remove that line and try again."
            )


def _parse_line(line: str) -> dict[str, Any] | None:
    """Return a row that names its step and holds only numbers and lists of them, null for a non-finite one."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) not in (int, float):
        return None
    values = (entry for value in row.values() for entry in (value if type(value) is list else [value]))
    return row if all(type(value) in (int, float, NoneType) for value in values) else None


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
