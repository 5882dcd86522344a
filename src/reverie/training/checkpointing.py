"""Checkpoints during training."""

from collections.abc import Callable
from pathlib import Path

from reverie.dreamer import Dreamer
from reverie.runs.checkpoints import Checkpoints
from reverie.training.callbacks import Callback, EvaluationResult, Run
from reverie.training.counters import Counters
from reverie.training.every import Every
from reverie.training.nonfinite import Diverged, NonFiniteGuard
from reverie.training.train_state import TrainState


class Checkpointing(Callback):
    """Writes a checkpoint every `training.checkpoint_every` steps, at the best evaluation, and at the end of the run.

    Args:
        checkpoints: of the run.
        state: what is saved.
        guard: completes the count of non-finite updates.
        flush: stores the steps that are under way.
        sync: forces the rows of metrics onto the disk.
        on_checkpoint: called with the folder of each.
        log: prints messages of the state.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        state: TrainState,
        guard: NonFiniteGuard,
        flush: Callable[[], None],
        sync: Callable[[], None],
        on_checkpoint: Callable[[Path], None],
        log: Callable[[str], None],
    ) -> None:
        self._checkpoints, self._state, self._guard = checkpoints, state, guard
        self._flush, self._sync, self._on_checkpoint, self._log = flush, sync, on_checkpoint, log
        self._every: Every = state.schedules["checkpoint"]
        self._score: float | None = None
        """Best score so far, of the agent that is saved next."""

    def on_start(self, run: Run) -> None:
        """Write the first checkpoint of a new run, from which it can be resumed."""
        settings = run.config.training
        self._every_updates = max(1, round(settings.checkpoint_every * settings.train_steps / settings.train_every))
        if not self._checkpoints.list():
            self.save()

    def on_step(self, counters: Counters, transitions: object) -> None:
        """Save if it is due, or if the agent has the best score so far."""
        if self._every(counters.steps) or self._score is not None:
            self.save()

    def on_update(self, counters: Counters, metrics: object) -> None:
        """Save in pretraining after as many updates as later."""
        if counters.updates_between_steps and counters.updates_between_steps % self._every_updates == 0:
            self.save()

    def on_evaluation(self, result: EvaluationResult) -> None:
        """Note the best score so far. The agent is saved once all callbacks have seen this step."""
        counters = self._state.counters
        if counters.best_score is None or result.mean_return > counters.best_score:
            self._score = counters.best_score = result.mean_return

    def on_end(self) -> None:
        """Save the finished run."""
        self._state.counters.finished_at = self._state.counters.steps
        self.save()

    def save(self) -> Path:
        """Write a checkpoint.

        Raises:
            Diverged: if a weight is not finite; nothing is saved then.
            CheckpointError: if it cannot be written; earlier ones are intact.
        """
        state = self._state
        self._flush()
        self._guard.flush()
        state.counters.tick()
        with state.metrics.timer("checkpoint"):
            if not _is_finite(state.agent):
                raise Diverged(
                    f"The weights are not finite at step {state.counters.steps}, and were not saved. Lower the "
                    "learning rates, and continue with --resume from the checkpoint before."
                )
            self._sync()
            folder = self._checkpoints.save(state.counters.steps, state.snapshot(), self._score)
        self._score = None
        state.pop_messages(self._log)
        self._on_checkpoint(folder)
        return folder


def _is_finite(agent: Dreamer) -> bool:
    return all(bool(weight.isfinite().all()) for weight in agent.parameters())
