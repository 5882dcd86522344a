"""The `metrics.jsonl` of a run, as its writer has it open."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie.errors import RunError
from reverie.runs.atomic_io import atomic_write
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

    def open(self) -> None:
        """Start a new file; raise RunError if it has content."""
        if self.path.exists() and self.path.stat().st_size:
            raise RunError(f"{self.path} already holds metrics. Continue with --resume, or choose another folder.")
        self._file = self.path.open("a", encoding="utf-8")

    def open_at(self, num_rows: int | None = None, step: float = math.inf, updates: float = math.inf) -> None:
        """Continue a file after the rows of a checkpoint; later ones are removed, so that none is written twice.

        Args:
            num_rows: rows at the checkpoint; None if that is not known.
            step: agent steps at the checkpoint.
            updates: updates at the checkpoint; in pretraining they rise while steps do not.

        Raises:
            RunError: if a row that is kept is damaged.
        """
        if self.path.exists():
            kept = kept_rows(self.path, num_rows, step, updates)
            self.num_rows = len(kept)
            self.num_dropped = self.path.read_bytes().count(b"\n") - self.num_rows
            data = "".join(kept).encode()
            self._hash.update(data)
            atomic_write(self.path, data)
        self._file = self.path.open("a", encoding="utf-8")

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row; raise OSError if it cannot be written, for example on a full disk."""
        line = json.dumps(row) + "\n"
        self._file.write(line)
        self._file.flush()
        self.num_rows += 1
        self._hash.update(line.encode())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
