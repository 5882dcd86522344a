"""The `metrics.jsonl` of a run, as its writer has it open."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reverie.errors import RunError
from reverie.runs.atomic_io import atomic_write, sync
from reverie.runs.metrics import kept_rows


class MetricsFile:
    """Appends rows, each a line of JSON that is handed to the operating system at once.

    A checkpoint stores `num_rows` and `sha256`, so that a resumed run finds its rows and `verify` compares them.

    Args:
        path: the file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_rows = 0
        """Rows in the file."""
        self.num_dropped = 0
        """Rows after the checkpoint that were removed when the run was resumed."""
        self._hash = hashlib.sha256()
        self._file: Any = None

    @property
    def sha256(self) -> str:
        """Checksum of the rows in the file, in hexadecimal."""
        return self._hash.hexdigest()

    def open(self, num_rows: int = 0, step: float = math.inf, updates: float = math.inf) -> None:
        """Open the file after the rows of a checkpoint; later ones are removed, so that none is written twice.

        Args:
            num_rows: rows at the checkpoint; 0 for a new run.
            step: agent steps at the checkpoint.
            updates: updates at the checkpoint; in pretraining they rise while steps do not.

        Raises:
            RunError: if a row that is kept is damaged, or the file cannot be written.
        """
        with self._explained():
            if self.path.exists() and self.path.stat().st_size:
                kept = kept_rows(self.path, num_rows, step, updates)
                self.num_rows = len(kept)
                self.num_dropped = self.path.read_bytes().count(b"\n") - self.num_rows
                data = "".join(kept).encode()
                self._hash.update(data)
                atomic_write(self.path, data)
            self._file = self.path.open("a", encoding="utf-8")

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
        if self._file is not None:
            file, self._file = self._file, None
            with self._explained():
                file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"Cannot write {self.path} ({error.strerror or error}). Make room there, then continue with --resume."
            ) from error


def _as_json(value: float | Sequence[float]) -> float | list[Any] | None:
    if isinstance(value, Sequence):
        return [_as_json(entry) for entry in value]
    if isinstance(value, int):
        return value
    return float(f"{value:.7g}") if math.isfinite(value) else None  # Seven digits are all that float32 has.
