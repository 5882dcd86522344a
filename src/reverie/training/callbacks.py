"""Callbacks: what watches a run, and may end it.

The parts of a run that watch it are callbacks, too: evaluation, videos, rows of metrics, checkpoints, the display. They
are called in the order of `CallbackList`, those of the user after evaluation, videos, metrics and display, and before
the checkpoint, which holds their state.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from reverie.config import Config
from reverie.dreamer import Dreamer
from reverie.specs import EnvSpec
from reverie.training.collectors import Episode, Transition
from reverie.training.counters import Counters

Json = Any


@dataclass(frozen=True)
class Stop:
    """Return value of a callback that ends the run."""

    reason: str


class EvaluationResult(NamedTuple):
    """Episodes played with the mode of the actor, all of one agent."""

    step: int
    """Agent steps of the run."""
    episodes: tuple[Episode, ...]
    is_final: bool = False
    """True for the evaluation at the end of the run."""

    @property
    def returns(self) -> tuple[float, ...]:
        """Undiscounted sums of raw rewards."""
        return tuple(episode.return_ for episode in self.episodes)

    @property
    def mean_return(self) -> float:
        """Mean of `returns`."""
        return sum(self.returns) / len(self.returns)


@dataclass(frozen=True)
class Run:
    """A run, as a callback sees it. Read it and change nothing: a run with callbacks computes what one without does."""

    path: Path
    """Folder of the run."""
    config: Config
    spec: EnvSpec
    """Observations and actions of the environment."""
    agent: Dreamer
    counters: Counters
    log: Callable[[str], None]
    """Prints a line that stays."""


class Callback:
    """Base class: override what you need.

    Each method may return `Stop("reason")`. The run then finishes as it does after its last step: with an evaluation, a
    row of metrics and a checkpoint. An exception ends it, too, after a checkpoint.
    """

    def on_start(self, run: Run) -> Stop | None:
        """Called before the first step, in a resumed run after its state was restored."""

    def on_step(self, counters: Counters, transitions: Sequence[Transition]) -> Stop | None:
        """Called after every step of the environments and the updates that were due.

        Args:
            counters: steps, frames, updates and episodes so far.
            transitions: the steps since the last call; one, or several with asynchronous collection.
        """

    def on_update(self, counters: Counters, metrics: Mapping[str, Tensor]) -> Stop | None:
        """Called after every update.

        Args:
            counters: steps, frames, updates and episodes so far.
            metrics: losses and more, tensors of one element. Reading one waits for the device.
        """

    def on_episode(self, episode: Episode) -> Stop | None:
        """Called after every episode of the training environments, prefill included."""

    def on_evaluation(self, result: EvaluationResult) -> Stop | None:
        """Called after every evaluation."""

    def on_checkpoint(self, path: Path) -> Stop | None:
        """Called after every checkpoint with its folder."""

    def on_end(self) -> Stop | None:
        """Called when the run ends: after its last step, a `Stop`, or a stop signal."""

    def state_dict(self) -> dict[str, Json]:
        """Return what a resumed run needs, in JSON's types."""
        return {}

    def load_state_dict(self, state: dict[str, Json]) -> None:
        """Restore what `state_dict` returned."""


class CallbackList:
    """Calls callbacks one after the other, and keeps the first `Stop`.

    Args:
        users: those of the user.
    """

    def __init__(self, users: Iterable[Callback]) -> None:
        self.users = tuple(users)
        self.before: tuple[Callback, ...] = ()
        """The run's own that are called before those of the user."""
        self.after: tuple[Callback, ...] = ()
        self.stop: Stop | None = None
        for callback in self.users:
            if not isinstance(callback, Callback):
                raise TypeError(f"A {type(callback).__name__} is not a callback. Derive it from reverie.Callback.")

    @property
    def _all(self) -> tuple[Callback, ...]:
        return (*self.before, *self.users, *self.after)

    def on_start(self, run: Run) -> None:
        """Call `on_start` of each."""
        self._call("on_start", run)

    def on_step(self, counters: Counters, transitions: Sequence[Transition]) -> None:
        """Call `on_step` of each; those of the user only where there are transitions."""
        self._call("on_step", counters, transitions, skip_users=not transitions)

    def on_update(self, counters: Counters, metrics: Mapping[str, Tensor]) -> None:
        """Call `on_update` of each."""
        self._call("on_update", counters, metrics)

    def on_episode(self, episode: Episode) -> None:
        """Call `on_episode` of each."""
        self._call("on_episode", episode)

    def on_evaluation(self, result: EvaluationResult) -> None:
        """Call `on_evaluation` of each."""
        self._call("on_evaluation", result)

    def on_checkpoint(self, path: Path) -> None:
        """Call `on_checkpoint` of each."""
        self._call("on_checkpoint", path)

    def on_end(self, is_interrupted: Callable[[], bool]) -> None:
        """Call `on_end` of each; of the run's own only until it is interrupted, since it is to be resumed."""
        for callback in self._all:
            if callback in self.users or not is_interrupted():
                self._call_one(callback, "on_end")

    def _call(self, method: str, *arguments: Any, skip_users: bool = False) -> None:
        for callback in self._all:
            if not (skip_users and callback in self.users):
                self._call_one(callback, method, *arguments)

    def _call_one(self, callback: Callback, method: str, *arguments: Any) -> None:
        try:
            stop = getattr(callback, method)(*arguments)
        except Exception as error:
            if callback in self.users:
                error.add_note(f"Raised by the callback {type(callback).__qualname__} in {method}.")
            raise
        self.stop = self.stop or stop


def callback_states(callbacks: Iterable[Callback]) -> list[dict[str, Json]]:
    """Return the state of each callback with its class."""
    return [{"class": type(callback).__qualname__, "state": callback.state_dict()} for callback in callbacks]


def restore_callbacks(callbacks: Sequence[Callback], states: Sequence[dict[str, Json]]) -> list[str]:
    """Restore callbacks from what `callback_states` returned for others of the same classes in the same order.

    Returns:
        A message for the user where the callbacks are others than those of the states.
    """
    saved = [state["class"] for state in states]
    names = [type(callback).__qualname__ for callback in callbacks]
    for callback, name, state in zip(callbacks, names, states, strict=False):
        if state["class"] == name:
            callback.load_state_dict(state["state"])
    if saved == names or not saved:
        return []
    return [
        f"The checkpoint has callbacks {', '.join(saved)}, this run {', '.join(names) or 'none'}. Those that differ "
        "start without a state."
    ]
