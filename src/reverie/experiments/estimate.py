"""How long a sweep still takes, from nothing but what was measured in it.

A cell takes `overhead` seconds until steps and updates go on beside each other, and from there a constant time for
every frame. Both are measured on cells as similar as there are: of the same environment and variant, else of the same
environment, else of the same preset. What resembles nothing that was measured is unknown, and said to be.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reverie.experiments.cells import Cell
from reverie.experiments.run_progress import RunProgress


@dataclass(frozen=True)
class Pace:
    """How fast runs of one kind are."""

    overhead: float
    """Seconds until steps and updates go on beside each other."""
    base: float
    """Frames of that row."""
    per_frame: float
    """Seconds for each frame after it."""

    def left(self, frames: float, progress: RunProgress, since: float = 0.0) -> float:
        """Seconds that a run still takes.

        Args:
            frames: of the whole run.
            progress: where it stands.
            since: seconds that have passed since its last row.
        """
        if progress.first is None:
            before = max(self.overhead - progress.last.seconds, 0.0)
            return max(before + max(frames - self.base, 0.0) * self.per_frame - since, 0.0)
        return max((frames - progress.last.frames) * self.per_frame - since, 0.0)


@dataclass(frozen=True)
class Estimate:
    """Time until a sweep is through."""

    seconds: float | None
    """Of the cells whose pace is known; None if it is known of none that is left."""
    unknown: int
    """Cells left that resemble nothing measured."""
    borrowed: int = 0
    """Cells left whose pace is that of another environment."""


def pace(progress: RunProgress) -> Pace | None:
    """What one run's metrics say; None before its second row after an update."""
    first, last = progress.first, progress.last
    if first is None or last.frames <= first.frames or last.seconds <= first.seconds:
        return None
    return Pace(first.seconds, first.frames, (last.seconds - first.seconds) / (last.frames - first.frames))


class Paces:
    """The paces of all cells that were measured, and for any cell that of the most similar ones."""

    def __init__(self, measured: Iterable[tuple[Cell, RunProgress]]) -> None:
        self._by_kind: dict[tuple[str, ...], list[Pace]] = {}
        for cell, progress in measured:
            found = pace(progress)
            if found is not None:
                for kind in _kinds(cell):
                    self._by_kind.setdefault(kind, []).append(found)

    def borrows(self, cell: Cell) -> bool:
        """Whether the pace of a cell is that of another environment."""
        same_env = _kinds(cell)[:2]
        return self.of(cell) is not None and not any(kind in self._by_kind for kind in same_env)

    def of(self, cell: Cell) -> Pace | None:
        """The mean of the most similar ones; None if there is none."""
        for kind in _kinds(cell):
            if found := self._by_kind.get(kind):
                n = len(found)
                return Pace(
                    sum(one.overhead for one in found) / n,
                    sum(one.base for one in found) / n,
                    sum(one.per_frame for one in found) / n,
                )
        return None


def _kinds(cell: Cell) -> tuple[tuple[str, ...], ...]:
    """What a cell is compared by, closest first."""
    return ("variant", cell.env, cell.variant), ("env", cell.env), ("preset", cell.preset)


def estimate(
    running: Sequence[tuple[Cell, RunProgress, float]],
    waiting: Sequence[tuple[Cell, RunProgress]],
    paces: Paces,
    workers: int,
) -> Estimate:
    """Time until all cells are through.

    Args:
        running: cells that run, where they stand, and the seconds since their last rows.
        waiting: the others, in the order in which they will be started.
        paces: what was measured.
        workers: cells that run at a time.
    """
    now = [_left(paces.of(cell), cell, progress, since) for cell, progress, since in running]
    later = [_left(paces.of(cell), cell, progress, 0.0) for cell, progress in waiting]
    left = [*now, *later]
    known = [seconds for seconds in left if seconds is not None]
    if not known:
        return Estimate(0.0 if not left else None, len(left))
    borrowed = sum(paces.borrows(cell) for cell in [*(cell for cell, *_ in running), *(cell for cell, _ in waiting)])
    seconds = makespan([s or 0.0 for s in now], [s or 0.0 for s in later], workers)
    return Estimate(seconds, len(left) - len(known), borrowed)


def makespan(running: Sequence[float], waiting: Sequence[float], workers: int) -> float:
    """Seconds until the last of some jobs ends, where each waiting one starts as soon as a worker is free."""
    free = [*running, *[0.0] * max(workers - len(running), 0)]
    heapq.heapify(free)
    last = max(running, default=0.0)
    for seconds in waiting:
        end = heapq.heappop(free) + seconds
        heapq.heappush(free, end)
        last = max(last, end)
    return last


def _left(found: Pace | None, cell: Cell, progress: RunProgress, since: float) -> float | None:
    return None if found is None else found.left(cell.frames, progress, since)
