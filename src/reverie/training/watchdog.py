"""Messages about a run in which nothing happens for a while."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(eq=False)
class Watchdog:
    """Watches the phase of a run in a thread of its own, within a `with` block."""

    metrics: Metrics
    """Their phase is what the run waits for."""
    log: Callable[[str], None]
    patience: float = PATIENCE
    """Seconds of silence before the first message."""

    def __post_init__(self) -> None:
        self._latest = (self.metrics.phase, self.patience)  # A phase, and the silence at which it is reported next.
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def check(self) -> None:
        """Print a message if the phase shows no progress."""
        phase = self.metrics.phase
        silence = self.metrics.clock() - phase.since
        latest, due = self._latest
        if phase != latest:
            due = self.patience
        if silence >= due:
            what = _WAITS.get(phase.name, f"the {phase.name}")
            self.log(f"Nothing has happened for {format_duration(silence)}: the run waits for {what}.")
            due *= 2
        self._latest = (phase, due)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(self.patience / 8):
            self.check()


@dataclass(eq=False)
class EpisodeWatch:
    """Messages that no episode ends, after a while and then at growing intervals."""

    log: Callable[[str], None]
    phase: str
    """In which episodes should end: evaluation or prefill."""
    time_limit: int
    """`env.time_limit`; 0 is none."""
    patience: float = EPISODE_PATIENCE
    """Seconds before the first message; each further one comes after twice the time."""
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._since, self._due, self._steps = self.clock(), self.patience, 0

    def step(self, has_ended: bool) -> None:
        """Note a step of each environment, and whether an episode has ended with it."""
        if has_ended:
            self._since, self._due, self._steps = self.clock(), self.patience, 0
            return
        self._steps += 1
        waited = self.clock() - self._since
        if waited < self._due:
            return
        self._due = 2 * waited
        seen = f"No episode of the {self.phase} has ended in {self._steps:,} steps ({format_duration(waited)})"
        if self.time_limit:
            self.log(f"{seen}. env.time_limit ends each after {self.time_limit:,}.")
        else:
            waits = "The evaluation waits" if self.phase == "evaluation" else "Evaluations will wait"
            self.log(f"{seen}. {waits} for that. If none will end, stop, and set env.time_limit.")
