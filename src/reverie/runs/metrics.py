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


def kept_rows(path: Path, rows: int, step: float = math.inf, update: float = math.inf) -> list[str]:
    """Return the lines that a resumed run keeps of the first `rows`; raise RunError if one of them is damaged."""
    known = islice(_parse(path), rows) if path.exists() else ()
    return [line + "\n" for line, row in known if row["step"] <= step and row.get("updates", 0) <= update]


class MetricsTail:
    """Reads a metrics file, which need not exist yet, as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = self._offset = 0

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Return the new rows; and True if they are all, as the file was replaced or shortened. Others are skipped."""
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
        rows = (_parse_line(line)[1] for line in data.decode(errors="replace").splitlines())
        return restarted, [row for row in rows if row is not None]


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    path = Path(path)
    path = path / METRICS if path.is_dir() else path
    if not path.is_file():
        raise RunError(f"There are no metrics at {path}. Give the folder of a run that has written {METRICS}.")
    return (row for _, row in _parse(path))


def _parse(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line and its row; a last line that was cut short is left out."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        is_json, row = _parse_line(line)
        if row is not None:
            yield line, row
        elif is_json or number < len(lines):
            raise RunError(f"{path}, line {number} is damaged: it is no row of metrics. Remove it and try again.")


def _parse_line(line: str) -> tuple[bool, dict[str, Any] | None]:
    """Return whether it is JSON, and a row that names its step and has numbers, null and lists of them only."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False, None
    if not isinstance(row, dict) or type(row.get("step")) not in (int, float):
        return True, None
    values = (entry for value in row.values() for entry in (value if type(value) is list else [value]))
    return True, row if all(type(value) in (int, float, NoneType) for value in values) else None
