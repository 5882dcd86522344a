"""Current state of every cell of a sweep."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from reverie.experiments.cells import Cell
from reverie.experiments.estimate import Estimate, Pace, Paces, estimate, pace
from reverie.experiments.run_progress import RunProgress


class State(Enum):
    """State of a cell, in the words of the display."""

    WAITING = "waiting"
    RUNNING = "running"
    ELSEWHERE = "elsewhere"
    """A process that another sweep started runs it."""
    DONE = "done"
    FAILED = "failed"
    SAME = "same"
    """As an earlier cell, which is run in its place."""


OPEN = (State.WAITING, State.ELSEWHERE)
"""States of the cells that are unfinished and do not run here."""


@dataclass
class Entry:
    """A cell and its state."""

    cell: Cell
    state: State = State.WAITING
    progress: RunProgress = field(default_factory=RunProgress)
    seen: float = 0.0
    """When the last row of its metrics was first seen, by the board's clock."""
    error: str = ""
    """Why it failed, last."""
    attempts: int = 0
    """Starts by this process."""

    def update_progress(self, progress: RunProgress, now: float) -> None:
        """Set its progress, and the time at which that was first seen."""
        if progress != self.progress:
            self.progress, self.seen = progress, now

    @property
    def fraction(self) -> float:
        """Share of its frames that is done, 0 to 1."""
        return 1.0 if self.state is State.DONE else min(self.progress.last.frames / max(self.cell.frames, 1), 1.0)

    @property
    def pretraining(self) -> float | None:
        """Share of its updates before behavior begins to act that is done, while frames do not rise."""
        settings, progress = self.cell.config.training, self.progress
        planned = settings.pretrain_world_model + settings.pretrain
        has_same_frames = progress.first is not None and progress.last.frames == progress.first.frames
        return progress.updates / planned if has_same_frames and progress.updates < planned else None

    @property
    def frames_per_second(self) -> float | None:
        """Pace since its first update; None before it was measured."""
        found = pace(self.progress)
        return None if found is None else 1 / found.per_frame


class Board:
    """All cells.

    Args:
        cells: of the plan, in the order in which they run.
        workers: cells that run at a time.
        clock: seconds, rising.
    """

    def __init__(self, cells: Iterable[Cell], workers: int, clock: Callable[[], float]) -> None:
        self.entries = [Entry(cell, State.SAME if cell.twin else State.WAITING) for cell in cells]
        self.workers = workers
        self.clock = clock
        self.started = clock()

    def of(self, *states: State) -> list[Entry]:
        """Return the entries in one of these states."""
        return [entry for entry in self.entries if entry.state in states]

    def counts(self) -> dict[State, int]:
        """Return the number of cells in each state; states without any are left out."""
        return {state: len(found) for state in State if (found := self.of(state))}

    @property
    def fraction(self) -> float:
        """Share of all frames that is done, 0 to 1; of cells that are run here or elsewhere."""
        counted = [entry for entry in self.entries if entry.state is not State.SAME]
        frames = sum(entry.cell.frames for entry in counted)
        return sum(entry.fraction * entry.cell.frames for entry in counted) / frames if frames else 1.0

    @property
    def elapsed(self) -> float:
        """Seconds since this process began."""
        return self.clock() - self.started

    def estimate(self) -> Estimate:
        """Return the time until all cells are finished, from the measurements so far."""
        now = self.clock()
        running = [(e.cell, e.progress, now - e.seen) for e in self.of(State.RUNNING)]
        waiting = [(e.cell, e.progress) for e in self.of(*OPEN)]
        return estimate(running, waiting, self._paces(), self.workers)

    def left(self, entry: Entry) -> float | None:
        """Return the seconds that a running cell still takes; None if nothing similar was measured."""
        found: Pace | None = self._paces().of(entry.cell)
        return None if found is None else found.left(entry.cell.frames, entry.progress, self.clock() - entry.seen)

    def _paces(self) -> Paces:
        return Paces((entry.cell, entry.progress) for entry in self.entries)
