"""Says what a run waits for when nothing has happened for a while."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

from reverie.training.progress import format_duration

PATIENCE = 120.0
"""Seconds of silence before the first word; every further one comes after twice the time."""

ENVIRONMENTS = "a step of the environments (one that hangs is made anew with env.timeout)"
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
