"""What the metrics of a run say while it is running: how far it is, how fast, and what it scored last."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.runs.metrics import MetricsTail


@dataclass(frozen=True)
class Mark:
    """A moment of a run: environment frames, and wall seconds over all its parts."""

    frames: float
    seconds: float


@dataclass(frozen=True)
class Track:
    """The rows of a run so far, summed up."""

    step: int = 0
    """Agent steps of the last row."""
    last: Mark = Mark(0.0, 0.0)
    first: Mark | None = None
    """The last row before steps go on beside updates: random steps and pretraining have another pace."""
    score: float | None = None
    """Mean return of the last evaluation, or of the last training episodes where there was no evaluation."""
    evaluated: bool = False
    """Whether `score` is of an evaluation."""
    updates: int = 0
    """Updates at the last row."""

    def after(self, row: dict[str, Any]) -> "Track":
        """With one more row."""
        mark = Mark(float(row["frames"]), float(row["time"]))
        stands_still = self.first is None or mark.frames == self.first.frames
        first = mark if row["updates"] and stands_still else self.first
        evaluation = _number(row, "eval/return")
        score, evaluated = self.score, self.evaluated
        if evaluation is not None:
            score, evaluated = evaluation, True
        elif not evaluated:
            training = _number(row, "train/return")
            score = score if training is None else training
        return Track(int(row["step"]), mark, first, score, evaluated, int(row["updates"]))


class Tail:
    """The rows of a `metrics.jsonl` so far, summed up as it grows.

    Args:
        path: the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._tail = MetricsTail(path)
        self.track = Track()

    def read(self) -> Track:
        """Return the sum of all rows that are complete by now."""
        restarted, rows = self._tail.read()
        if restarted:
            self.track = Track()
        for row in rows:
            with suppress(KeyError, TypeError, ValueError):  # Lacks a counter, or has null for it.
                self.track = self.track.after(row)
        return self.track


def _number(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else None
