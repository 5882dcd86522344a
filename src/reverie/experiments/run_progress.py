"""Progress of a run, read from its metrics while it trains: steps, pace and latest score."""

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
class RunProgress:
    """The rows of a run so far, summed up."""

    step: int = 0
    """Agent steps of the last row."""
    last: Mark = Mark(0.0, 0.0)
    first: Mark | None = None
    """The last row before steps and updates are interleaved: random steps and pretraining have another pace."""
    score: float | None = None
    """Mean return of the last evaluation, or of the last training episodes where there was no evaluation."""
    evaluated: bool = False
    """True if `score` is of an evaluation."""
    updates: int = 0
    """Updates at the last row."""

    def after(self, row: dict[str, Any]) -> "RunProgress":
        """Return the progress with one more row."""
        mark = Mark(float(row["frames"]), float(row["time"]))
        has_same_frames = self.first is None or mark.frames == self.first.frames
        first = mark if row["updates"] and has_same_frames else self.first
        evaluation = _number(row, "eval/return")
        score, evaluated = self.score, self.evaluated
        if evaluation is not None:
            score, evaluated = evaluation, True
        elif not evaluated:
            training = _number(row, "episode/return")
            score = score if training is None else training
        return RunProgress(int(row["step"]), mark, first, score, evaluated, int(row["updates"]))


class ProgressReader:
    """The rows of a `metrics.jsonl` so far, summed up as it grows.

    Args:
        path: the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._tail = MetricsTail(path)
        self.progress = RunProgress()

    def read(self) -> RunProgress:
        """Return the sum of all rows that are complete by now."""
        restarted, rows = self._tail.read()
        if restarted:
            self.progress = RunProgress()
        for row in rows:
            with suppress(KeyError, TypeError, ValueError):  # Lacks a counter, or has null for it.
                self.progress = self.progress.after(row)
        return self.progress


def _number(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else None
