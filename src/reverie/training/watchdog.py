"""Says what a run waits for when nothing has happened for a while."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

from reverie.training.progress import format_duration

PATIENCE = 120.0
"""Seconds of silence before the first word; every further one comes after twice the time."""
EPISODE_PATIENCE = 60.0
"""The same of steps in which no episode ends."""

ENVIRONMENTS = "a step of the environments (one that hangs is restarted with env.step_timeout)"
BATCH = "a batch from the replay"
UPDATE = "an update of the networks"
CHECKPOINT = "a checkpoint to be written"
VIDEO = "a video to be drawn"


class Watchdog:
    """Watches in a thread of its own, within a `with` block.

    Args:
        tell: is given the sentence.
        patience: seconds of silence.
        clock: seconds that never go back.
    """

    def __init__(
        self, tell: Callable[[str], None], patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._patience = patience
        self._clock = clock
        self._state = ("the start", clock(), patience)  # What is waited for, since when, and when that is told.
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def wait_for(self, what: str) -> None:
        """Something has happened, and now this is waited for."""
        self._state = (what, self._clock(), self._patience)

    def look(self) -> None:
        """Tell it, if it is time."""
        state = what, since, due = self._state
        silence = self._clock() - since
        if silence >= due:
            if self._state is state:  # Else something has happened just now.
                self._state = (what, since, 2 * due)
            self._tell(f"Nothing has happened for {format_duration(silence)}: the run waits for {what}.")

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._patience / 8):
            self.look()


class EpisodeWatch:
    """Says that no episode ends, after a while and then at growing intervals.

    Args:
        tell: is given the sentence.
        phase: in which episodes should end, `evaluation` or `prefill`.
        time_limit: `env.time_limit`; 0 is none.
        patience: seconds before the first sentence; every further one comes after twice the time.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        phase: str,
        time_limit: int,
        patience: float = EPISODE_PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._phase, self._time_limit = tell, phase, time_limit
        self._patience, self._clock = patience, clock
        self._since, self._due, self._steps = clock(), patience, 0

    def step(self, count: int, ended: bool) -> None:
        """Note `count` steps of each environment, and whether an episode has ended with them."""
        if ended:
            self._since, self._due, self._steps = self._clock(), self._patience, 0
            return
        self._steps += count
        waited = self._clock() - self._since
        if waited < self._due:
            return
        self._due = 2 * waited
        seen = f"No episode of the {self._phase} has ended in {self._steps:,} steps ({format_duration(waited)})"
        if self._time_limit:
            self._tell(f"{seen}; env.time_limit ends each after {self._time_limit:,}.")
        else:
            waits = "The evaluation waits" if self._phase == "evaluation" else "Evaluations will wait"
            self._tell(f"{seen}. {waits} for that. If none will end, stop, and set env.time_limit.")
