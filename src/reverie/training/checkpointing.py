"""Checkpoints during training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from reverie.runs.checkpoints import Checkpoints
from reverie.training.callbacks import Callback, EvaluationResult, Run
from reverie.training.counters import Counters
from reverie.training.every import is_due_between_steps
from reverie.training.nonfinite import Diverged, NonFiniteGuard
from reverie.training.train_state import TrainState


@dataclass(eq=False)
class Checkpointing(Callback):
    """Writes a checkpoint every `training.checkpoint_every` steps, at the best evaluation, and at the end."""

    checkpoints: Checkpoints
    state: TrainState
    guard: NonFiniteGuard
    flush: Callable[[], None]
    """Stores the steps that are under way."""
    sync: Callable[[], None]
    """Forces the rows of metrics onto the disk."""
    _score: float | None = None
    """Best score so far, of the agent that is saved next."""

    @override
    def on_start(self, run: Run) -> None:
        if not self.checkpoints.list():  # from the first one a new run can be resumed
            self.save()

    @override
    def on_step(self, counters: Counters, transitions: object) -> None:
        if self.state.schedules["checkpoint"](counters.steps) or self._score is not None:
            self.save()

    @override
    def on_update(self, counters: Counters, metrics: object) -> None:
        settings = self.run.config.training
        if is_due_between_steps(counters, settings, settings.checkpoint_every):
            self.save()

    @override
    def on_evaluation(self, result: EvaluationResult) -> None:
        """Note the best score so far. The agent is saved once all callbacks have seen this step."""
        counters = self.run.counters
        if counters.best_score is None or result.mean_return > counters.best_score:
            self._score = counters.best_score = result.mean_return

    @override
    def on_end(self) -> None:
        self.run.counters.finished_at = self.run.counters.steps
        self.save()

    def save(self) -> Path:
        """Write a checkpoint; raise Diverged if a weight is not finite, CheckpointError if the disk fails."""
        state = self.state
        self.flush()
        self.guard.flush()
        state.counters.tick()
        with state.metrics.timer("checkpoint"):
            if not all(bool(weight.isfinite().all()) for weight in state.agent.parameters()):
                raise Diverged(
                    f"The weights are not finite at step {state.counters.steps}, and were not saved. Lower the "
                    "learning rates, and continue with --resume from the checkpoint before."
                )
            self.sync()
            folder = self.checkpoints.save(state.counters.steps, state.snapshot(), self._score)
        self._score = None
        state.pop_messages(self.run.log)
        state.callbacks.call("on_checkpoint", folder)
        return folder
