"""Rows of metrics in a run folder, read as they were written."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, TextIO

from reverie.errors import RunError
from reverie.runs.atomic_io import atomic_write

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
COUNTERS = ("step", "frames", "time", "updates")
"""Present in every row: agent steps, environment frames, wall seconds of the run, updates."""


def observation_losses(names: Iterable[str]) -> list[str]:
    """Those of these metrics that say how well observations are reconstructed, `model/KEY_loss`; `image` first."""
    others = {"model/reward_loss", "model/discount_loss", "model/kl_loss"}
    losses = {name for name in names if name.startswith("model/") and name.endswith("_loss")} - others
    return sorted(losses, key=lambda name: (name != "model/image_loss", name))


def _parse(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line of a metrics file, as it is and parsed; a last line that was cut short is left out."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for index, line in enumerate(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if index == len(lines) - 1:
                return
            row = None
        if not _is_row(row):
            raise RunError(
                f"{path}, line {index + 1} is damaged: it is not a row of metrics; remove that line and try again."
            )
        yield line, row


def _is_row(row: Any) -> bool:
    """Return whether it names its step and holds only numbers and lists of them; null stands for a non-finite one."""
    if not isinstance(row, dict) or type(row.get("step")) not in (int, float):
        return False
    values = (entry for value in row.values() for entry in (value if type(value) is list else [value]))
    return all(type(value) in (int, float, NoneType) for value in values)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    path = Path(path)
    path = path / METRICS_FILE if path.is_dir() else path
    if not path.is_file():
        raise RunError(f"There are no metrics at {path}; give the folder of a run that has written {METRICS_FILE}.")
    for _, row in _parse(path):
        yield row


class Evaluation(NamedTuple):
    """Episodes played with the actor's mode at one step of a run."""

    step: int
    """Agent steps."""
    frames: int
    returns: tuple[float, ...]
    """Undiscounted, of raw rewards."""
    lengths: tuple[int, ...]
    """Agent steps."""


def read_evaluations(path: Path) -> list[Evaluation]:
    """Evaluations of a run, oldest first, with the return of each episode.

    Args:
        path: the `metrics.jsonl`, or the run folder that holds it.

    Raises:
        RunError: if there is no such file, or a line before the last is damaged.
    """
    return [
        Evaluation(row["step"], row["frames"], tuple(row["eval/returns"]), tuple(map(int, row["eval/lengths"])))
        for row in _rows(path)
        if "eval/returns" in row
    ]


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a `metrics.jsonl`, oldest first; what was written as null is nan.

    A last line that was cut short (the run was killed, or is writing it now) is left out, and so are lists, which
    `read_evaluations` reads.

    Args:
        path: the file, or the run folder that holds it.

    Raises:
        RunError: if there is no such file, or a line before the last is damaged.
    """
    return [
        {name: math.nan if value is None else value for name, value in row.items() if type(value) is not list}
        for row in _rows(path)
    ]


def kept_rows(path: Path, rows: int | None = None, step: float = math.inf, update: float = math.inf) -> list[str]:
    """Lines of a metrics file that a resumed run keeps; what follows the first `rows` is not looked at.

    Raises:
        RunError: if one of them is damaged.
    """
    if not path.exists():
        return []
    known = islice(_parse(path), rows or None)
    return [line + "\n" for line, row in known if row["step"] <= step and row.get("updates", 0) <= update]


class MetricsFile:
    """`metrics.jsonl` of a run, for the process that writes it.

    A row is a JSON object: the `COUNTERS`, then scalars and lists. JSON knows neither nan nor inf, so a number that is
    not finite is written as null.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        """Rows in the file."""
        self.dropped = 0
        """Rows that `open` removed, since a resumed run computes them again."""
        self._sum = hashlib.sha256()
        self._file: TextIO | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the rows in the file, in hexadecimal."""
        return self._sum.hexdigest()

    def open(self, rows: int | None = None, step: float = math.inf, updates: float = math.inf) -> "MetricsFile":
        """Open the file for new rows.

        Args:
            rows: number of rows at the checkpoint that a run is resumed from; later ones are removed. None starts a
                new file.
            step: agent steps at that checkpoint.
            updates: updates at that checkpoint.

        Raises:
            RunError: if a new file would overwrite metrics, or nothing can be written.
        """
        with self._explained():
            is_used = self.path.exists() and self.path.stat().st_size > 0
            if is_used and rows is None:
                raise RunError(f"{self.path} already has metrics. Continue with --resume, or choose another folder.")
            if is_used:
                kept = kept_rows(self.path, rows, step, updates)
                self.rows = len(kept)
                self.dropped = self.path.read_bytes().count(b"\n") - self.rows
                data = "".join(kept).encode()
                self._sum.update(data)
                atomic_write(self.path, data)
            self._file = self.path.open("a", encoding="utf-8")
        return self

    def write(self, row: Mapping[str, float | Sequence[float]]) -> None:
        """Append one row, and pass it to the operating system at once.

        Raises:
            RunError: if it cannot be written, for example on a full disk.
        """
        assert self._file is not None
        line = json.dumps({name: _as_json(value) for name, value in row.items()}) + "\n"
        with self._explained():
            self._file.write(line)
            self._file.flush()
            self.rows += 1
            self._sum.update(line.encode())

    def close(self) -> None:
        """Close the file."""
        with self._explained():
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunError(
                f"Cannot write {self.path} ({reason}). Make room or give access there, then continue with --resume."
            ) from error


def _as_json(value: float | Sequence[float]) -> float | list[float | None] | None:
    if isinstance(value, Sequence):
        return [_number(entry) for entry in value]
    return _number(value)


def _number(value: float) -> float | None:
    if isinstance(value, int):
        return value
    # Seven digits are all that float32 has.
    return float(f"{value:.7g}") if math.isfinite(value) else None
