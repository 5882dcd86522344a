"""Messages about a run in which nothing happens for a while."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

from reverie.training.metrics import Metrics
from reverie.training.numbers import format_duration

PATIENCE = 120.0
"""Seconds of silence before the first message; each further one comes after twice the time."""
EPISODE_PATIENCE = 60.0
"""Seconds of steps in which no episode ends before the first message."""

_ENVIRONMENTS = "a step of the environments (one that hangs is restarted with env.step_timeout)"
_WAITS = {
    "collect": _ENVIRONMENTS,
    "wait": _ENVIRONMENTS,
    "evaluate": _ENVIRONMENTS,
    "replay": "the replay",
    "sample": "a batch from the replay",
    "learn": "an update of the networks",
    "checkpoint": "a checkpoint to be written",
    "video": "a video to be drawn",
}


class Watchdog:
    """Watches the phase of a run in a thread of its own, within a `with` block.

    Args:
        metrics: their phase is what the run waits for.
        log: prints the message.
        patience: seconds of silence.
    """

    def __init__(self, metrics: Metrics, log: Callable[[str], None], patience: float = PATIENCE) -> None:
        self._metrics = metrics
        self._log = log
        self._patience = patience
        self._latest = (metrics.phase, patience)  # A phase, and the silence at which it is reported next.
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def check(self) -> None:
        """Print a message if the phase shows no progress."""
        phase = self._metrics.phase
        silence = self._metrics.clock() - phase.since
        latest, due = self._latest
        if phase != latest:
            due = self._patience
        if silence >= due:
            what = _WAITS.get(phase.name, f"the {phase.name}")
            self._log(f"Nothing has happened for {format_duration(silence)}: the run waits for {what}.")
            due *= 2
        self._latest = (phase, due)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(self._patience / 8):
            self.check()


class EpisodeWatch:
    """Messages that no episode ends, after a while and then at growing intervals.

    Args:
        log: prints the message.
        phase: in which episodes should end, `evaluation` or `prefill`.
        time_limit: `env.time_limit`; 0 is none.
        patience: seconds before the first message; each further one comes after twice the time.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        log: Callable[[str], None],
        phase: str,
        time_limit: int,
        patience: float = EPISODE_PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._phase, self._time_limit = log, phase, time_limit
        self._patience, self._clock = patience, clock
        self._since, self._due, self._steps = clock(), patience, 0

    def step(self, has_ended: bool) -> None:
        """Note a step of each environment, and whether an episode has ended with it."""
        if has_ended:
            self._since, self._due, self._steps = self._clock(), self._patience, 0
            return
        self._steps += 1
        waited = self._clock() - self._since
        if waited < self._due:
            return
        self._due = 2 * waited
        seen = f"No episode of the {self._phase} has ended in {self._steps:,} steps ({format_duration(waited)})"
        if self._time_limit:
            self._log(f"{seen}. env.time_limit ends each after {self._time_limit:,}.")
        else:
            waits = "The evaluation waits" if self._phase == "evaluation" else "Evaluations will wait"
            self._log(f"{seen}. {waits} for that. If none will end, stop, and set env.time_limit.")
