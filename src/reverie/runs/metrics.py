"""The `metrics.jsonl` of a run: its readers, and the writer that a training run has open.

Every row has `step` (agent steps), `frames` (of the environment), `time` (wall seconds of the run) and `updates`.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import RunError
from reverie.runs.atomic_io import atomic_write, sync
from reverie.runs.layout import METRICS


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows as they were written, oldest first: numbers, None for what was not finite, and lists of these.

    A last line that was cut short (the run was killed, or is writing it now) is left out.

    Args:
        path: the `metrics.jsonl`, or the run folder that holds it.

    Raises:
        RunError: if there is no such file, or another line is damaged.
    """
    path = Path(path)
    path = path / METRICS if path.is_dir() else path
    if not path.is_file():
        raise RunError(f"There are no metrics at {path}. Give the folder of a run that has written {METRICS}.")
    return [row for _, row in _parse(path)]


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the rows without lists, oldest first; what was written as null is nan. See `read_rows`."""
    return [
        {name: math.nan if value is None else value for name, value in row.items() if type(value) is not list}
        for row in read_rows(path)
    ]


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return each metric as an array with one entry per row; nan where a row lacks it. See `read_rows`."""
    rows = read_metrics(path)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, math.nan) for row in rows], np.float64) for name in names}


def observation_losses(names: Iterable[str]) -> list[str]:
    """Return the metrics of how well observations are reconstructed, `model/KEY_loss`; `image` first."""
    others = {"model/reward_loss", "model/discount_loss", "model/kl_loss"}
    losses = {name for name in names if name.startswith("model/") and name.endswith("_loss")} - others
    return sorted(losses, key=lambda name: (name != "model/image_loss", name))


def kept_rows(path: Path, rows: int, step: float = math.inf, update: float = math.inf) -> list[str]:
    """Return the lines that a resumed run keeps of the first `rows`; raise RunError if one of them is damaged."""
    known = islice(_parse(path), rows) if path.exists() else ()
    return [line for line, row in known if row["step"] <= step and row.get("updates", 0) <= update]


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
        rows = map(parse_row, data.decode(errors="replace").splitlines())
        return restarted, [row for row in rows if row is not None]


class MetricsFile:
    """Appends rows, each a line of JSON that is handed to the operating system at once.

    A checkpoint stores `num_rows` and `sha256`, so that a resumed run finds its rows and `verify` compares them. Rows
    after the checkpoint are removed when the file is opened, so that none is written twice.

    Args:
        path: the file; its folder exists.
        num_rows: rows at the checkpoint; 0 for a new run.
        step: agent steps at the checkpoint.
        updates: updates at the checkpoint; in pretraining they rise while steps do not.

    Raises:
        RunError: if a row that is kept is damaged, or the file cannot be written.
    """

    def __init__(self, path: Path, num_rows: int = 0, step: float = math.inf, updates: float = math.inf) -> None:
        self.path = path
        self.num_rows = self.num_dropped = 0
        self._hash = hashlib.sha256()
        with self._explained():
            if self.path.exists() and self.path.stat().st_size:
                kept = kept_rows(self.path, num_rows, step, updates)
                self.num_rows = len(kept)
                self.num_dropped = self.path.read_bytes().count(b"\n") - self.num_rows
                data = "".join(kept).encode()
                self._hash.update(data)
                atomic_write(self.path, data)
            self._file = self.path.open("a", encoding="utf-8")

    @property
    def sha256(self) -> str:
        """Checksum of the rows in the file, in hexadecimal."""
        return self._hash.hexdigest()

    def append(self, row: Mapping[str, float | Sequence[float]]) -> None:
        """Write a row of scalars and lists of them, null for what is not finite; raise RunError if that fails."""
        line = json.dumps({name: _as_json(value) for name, value in row.items()}) + "\n"
        with self._explained():
            self._file.write(line)
            self._file.flush()
        self.num_rows += 1
        self._hash.update(line.encode())

    def sync(self) -> None:
        """Force all rows onto the disk; raise RunError if they cannot be written."""
        with self._explained():
            sync(self.path)
            sync(self.path.parent)

    def close(self) -> None:
        """Close the file; raise RunError if the rest of a row that did not fit still does not."""
        with self._explained():
            self._file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"Cannot write {self.path} ({error.strerror or error}). Make room there, then continue with --resume."
            ) from error


def parse_row(line: str) -> dict[str, Any] | None:
    """Return a row, which names its step and has numbers, null and lists of them only; None for anything else."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) not in (int, float):
        return None
    values = (entry for value in row.values() for entry in (value if type(value) is list else [value]))
    return row if all(type(value) in (int, float, NoneType) for value in values) else None


def _parse(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line and its row; a last line that was cut short is left out."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        row = parse_row(line)
        if row is not None:
            yield f"{line}\n", row
        elif number < len(lines):
            raise RunError(f"{path}, line {number} is damaged: it is no row of metrics. Remove it and try again.")


def _as_json(value: float | Sequence[float]) -> float | list[Any] | None:
    if isinstance(value, Sequence):
        return [_as_json(entry) for entry in value]
    if isinstance(value, int):
        return value
    return float(f"{value:.7g}") if math.isfinite(value) else None  # Seven digits are all that float32 has.
