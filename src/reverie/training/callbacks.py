"""Callbacks: what watches a run, and may end it.

The run's own watchers are callbacks, too: evaluation, videos, rows of metrics and display are called before those of
the user, the checkpoint, which holds their state, after them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from reverie.collectors.collector import Episode, Transition
from reverie.config import Config
from reverie.dreamer import Dreamer
from reverie.specs import EnvSpec
from reverie.training.counters import Counters

Json = Any


class Stop(NamedTuple):
    """Return value of a callback that ends the run."""

    reason: str


class EvaluationResult(NamedTuple):
    """Episodes played with the mode of the actor, all of one agent."""

    step: int
    """Agent steps of the run."""
    episodes: tuple[Episode, ...]
    is_final: bool = False

    @property
    def returns(self) -> tuple[float, ...]:
        """Undiscounted sums of raw rewards."""
        return tuple(episode.return_ for episode in self.episodes)

    @property
    def mean_return(self) -> float:
        """Mean of `returns`."""
        return sum(self.returns) / len(self.returns)


class Run(NamedTuple):
    """A run, as a callback sees it. Read it and change nothing: a run with callbacks computes what one without does."""

    path: Path
    config: Config
    spec: EnvSpec
    agent: Dreamer
    counters: Counters
    log: Callable[[str], None]
    """Prints a line that stays."""


class Callback:
    """Base class: override what you need. `self.run` is there from `on_start` on.

    Each method may return `Stop("reason")`. The run then finishes as it does after its last step: with an evaluation, a
    row of metrics and a checkpoint. An exception ends it, too, after a checkpoint.
    """

    run: Run

    def on_start(self, run: Run) -> Stop | None:
        """Called before the first step, in a resumed run after its state was restored."""

    def on_step(self, counters: Counters, transitions: Sequence[Transition]) -> Stop | None:
        """Called after every step and the updates that were due, with the steps since the last call."""

    def on_update(self, counters: Counters, metrics: Mapping[str, Tensor]) -> Stop | None:
        """Called after every update. The metrics are tensors of one element; reading one waits for the device."""

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
    """Calls the callbacks of the user between two groups of the run's own, and keeps the first `Stop`."""

    stop: Stop | None = None
    before: tuple[Callback, ...] = ()
    after: tuple[Callback, ...] = ()

    def __init__(self, users: Iterable[Callback]) -> None:
        self.users = tuple(users)
        for callback in self.users:
            if not isinstance(callback, Callback):
                raise TypeError(f"A {type(callback).__name__} is not a callback. Derive it from reverie.Callback.")

    def call(self, method: str, *arguments: Any, is_called: Callable[[Callback], bool] = lambda callback: True) -> None:
        """Call a method of each callback, by default of all."""
        for callback in filter(is_called, (*self.before, *self.users, *self.after)):
            try:
                stop = getattr(callback, method)(*arguments)
            except Exception as error:
                if callback in self.users:
                    error.add_note(f"Raised by the callback {type(callback).__qualname__} in {method}.")
                raise
            self.stop = self.stop or stop

    def on_start(self, run: Run) -> None:
        """Give each callback the run."""
        for callback in (*self.before, *self.users, *self.after):
            callback.run = run
        self.call("on_start", run)

    def on_step(self, counters: Counters, transitions: Sequence[Transition]) -> None:
        """Call those of the user only if there are steps."""
        self.call("on_step", counters, transitions, is_called=lambda one: bool(transitions) or one not in self.users)

    def on_end(self, is_interrupted: Callable[[], bool]) -> None:
        """Call those of the user, and the run's own until it is interrupted, since it is to be resumed."""
        self.call("on_end", is_called=lambda callback: callback in self.users or not is_interrupted())

    def states(self) -> list[dict[str, Json]]:
        """Return the state of each of the user's with its class."""
        return [{"class": type(callback).__qualname__, "state": callback.state_dict()} for callback in self.users]

    def restore(self, states: Sequence[dict[str, Json]]) -> list[str]:
        """Restore those of the user, and return a message where they are others than those of the states."""
        saved, names = [state["class"] for state in states], [type(user).__qualname__ for user in self.users]
        for user, name, state in zip(self.users, names, states, strict=False):
            if state["class"] == name:
                user.load_state_dict(state["state"])
        if saved == names or not saved:
            return []
        return [
            f"The checkpoint has callbacks {', '.join(saved)}, this run {', '.join(names) or 'none'}. "
            "Those that differ start without a state."
        ]
