"""Where every cell of a sweep stands at this moment."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from reverie.experiments.cells import Cell
from reverie.experiments.estimate import Estimate, Pace, Paces, estimate, pace
from reverie.experiments.track import Track


class State(Enum):
    """Of a cell, in the words that the user sees."""

    WAITING = "waiting"
    RUNNING = "running"
    ELSEWHERE = "elsewhere"
    """A process that another sweep started runs it."""
    DONE = "done"
    FAILED = "failed"
    SAME = "same"
    """As an earlier cell, which is run in its place."""


OPEN = (State.WAITING, State.ELSEWHERE)
"""What is still to be done, and is not being done here."""


@dataclass
class Entry:
    """A cell, and how it stands."""

    cell: Cell
    state: State = State.WAITING
    track: Track = field(default_factory=Track)
    seen: float = 0.0
    """When the last row of its metrics was first seen, by the board's clock."""
    error: str = ""
    """Why it failed, last."""
    attempts: int = 0
    """Starts by this process."""

    def look_at(self, track: Track, now: float) -> None:
        """Take over what its metrics say."""
        if track != self.track:
            self.track, self.seen = track, now

    @property
    def fraction(self) -> float:
        """Share of its frames that is done, 0 to 1."""
        return 1.0 if self.state is State.DONE else min(self.track.last.frames / max(self.cell.frames, 1), 1.0)

    @property
    def pretraining(self) -> float | None:
        """Share of its updates before behavior begins to act that is done, while frames stand still for them."""
        settings, track = self.cell.config.training, self.track
        planned = settings.pretrain_world_model + settings.pretrain
        stands_still = track.first is not None and track.last.frames == track.first.frames
        return track.updates / planned if stands_still and track.updates < planned else None

    @property
    def frames_per_second(self) -> float | None:
        """Pace since its first update; None before it was measured."""
        found = pace(self.track)
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
        """Entries in one of these states."""
        return [entry for entry in self.entries if entry.state in states]

    def counts(self) -> dict[State, int]:
        """How many cells are in each state; states without any are left out."""
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
        """Time until all cells are through, from what was measured so far."""
        now = self.clock()
        running = [(e.cell, e.track, now - e.seen) for e in self.of(State.RUNNING)]
        waiting = [(e.cell, e.track) for e in self.of(*OPEN)]
        return estimate(running, waiting, self._paces(), self.workers)

    def left(self, entry: Entry) -> float | None:
        """Seconds that a running cell still takes; None if nothing like it was measured."""
        found: Pace | None = self._paces().of(entry.cell)
        return None if found is None else found.left(entry.cell.frames, entry.track, self.clock() - entry.seen)

    def _paces(self) -> Paces:
        return Paces((entry.cell, entry.track) for entry in self.entries)
