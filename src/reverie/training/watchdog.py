"""Messages about a run in which nothing happens for a while, or no episode ends."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from typing_extensions import override

from reverie.training.callbacks import Callback
from reverie.training.counters import Counters
from reverie.training.metrics import Metrics
from reverie.training.numbers import format_duration
from reverie.training.train_state import TrainState

_ENVIRONMENTS = "a step of the environments (one that hangs is restarted with env.step_timeout)"
_WAITS = {
    "collect": _ENVIRONMENTS,
    "wait": _ENVIRONMENTS,
    "evaluate": _ENVIRONMENTS,
    "validate": "losses on held-out episodes",
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
    patience: float = 120.0
    """Seconds of silence before the first message; each further one comes after twice the time."""

    def __post_init__(self) -> None:
        self._phase, self._due = self.metrics.phase, self.patience
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def check(self) -> None:
        """Print a message if the phase shows no progress."""
        phase = self.metrics.phase
        if phase != self._phase:
            self._phase, self._due = phase, self.patience
        silence = self.metrics.clock() - phase.since
        if silence >= self._due:
            self._due *= 2
            what = _WAITS.get(phase.name, f"the {phase.name}")
            self.log(f"Nothing has happened for {format_duration(silence)}: the run waits for {what}.")

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
    """Messages that no episode of an evaluation ends, after a while and then at growing intervals."""

    log: Callable[[str], None]
    time_limit: int
    """`env.time_limit`; 0 is none."""
    patience: float = 60.0
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
        advice = "The evaluation waits for that. If none will end, stop, and set env.time_limit."
        if self.time_limit:
            advice = f"env.time_limit ends each after {self.time_limit:,}."
        seen = f"No episode of the evaluation has ended in {self._steps:,} steps ({format_duration(waited)})"
        self.log(f"{seen}. {advice}")


WAIT_STEPS = 5_000
"""Steps of a prefill after which no end of an episode is worth a message."""


@dataclass(eq=False)
class PrefillCheck(Callback):
    """Prints a message where no episode ends in the prefill, or all are too short to sample from."""

    state: TrainState
    _is_waiting: bool = False
    _next_check: int = 10
    """Finished episodes at which it is checked next whether all are too short."""

    @override
    def on_step(self, counters: Counters, transitions: object) -> None:
        config, replay = self.run.config, self.state.replay
        if not transitions or counters.is_pretrained:
            return
        if counters.episodes >= self._next_check and (problem := replay.too_short(config.env.action_repeat)):
            self._next_check = 10 * counters.episodes
            self.run.log(f"Learning cannot begin yet: {problem}")
        is_ended = counters.episodes or config.replay.sampling == "steps"
        if counters.steps >= min(config.training.prefill, WAIT_STEPS) and not is_ended and not self._is_waiting:
            self._is_waiting = True
            self.run.log(
                f"No episode has ended in {counters.steps:,} steps, and learning waits for the first one. If none will "
                "end, set --env.time-limit, or --replay.sampling steps."
            )
