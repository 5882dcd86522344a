"""Non-finite updates: counted, and too many in a row end the run."""

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from torch import Tensor

from reverie.dreamer import Dreamer
from reverie.errors import CheckpointError, RunError
from reverie.runs.checkpoint import Snapshot
from reverie.training.counters import Counters
from reverie.training.failed_update import beginning, write_failed_update


class Diverged(RunError):
    """Numbers are no longer finite; the weights of this moment are not saved."""


@dataclass(eq=False)
class NonFiniteGuard:
    """Counts updates that an optimizer skipped, since a loss or its gradients were not finite.

    A result is read before the next update begins, so that a GPU computes while the host samples and steps.
    """

    agent: Dreamer
    counters: Counters
    failures_dir: Path
    """Folder for updates that end the run."""
    log: Callable[[str], None]
    _unread: tuple[Mapping[str, Tensor], Tensor] | None = None
    """Metrics of the latest update, and whether an optimizer skipped it."""
    _start: Snapshot | None = None

    def before_update(self, batch: Mapping[str, Tensor], is_world_model_only: bool) -> None:
        """Keep the state before an update that could end the run; other updates take no memory."""
        self.flush()
        is_last_allowed = self.counters.nonfinite_in_a_row >= self.agent.config.training.max_nonfinite_updates
        self._start = beginning(self.agent, batch, is_world_model_only) if is_last_allowed else None

    def after_update(self, metrics: Mapping[str, Tensor], is_skipped: Tensor) -> None:
        """Note the result of an update, which the next one or `flush` reads."""
        self._unread = metrics, is_skipped

    def flush(self) -> None:
        """Count the latest update; raise Diverged after one skipped update in a row too many."""
        if not self._unread:
            return
        (metrics, is_skipped), self._unread = self._unread, None
        counters, allowed = self.counters, self.agent.config.training.max_nonfinite_updates
        if not is_skipped:
            counters.nonfinite_in_a_row = 0
            return
        counters.nonfinite_updates += 1
        counters.nonfinite_in_a_row += 1
        what = f"{first_nonfinite(metrics)} was not finite in update {self.agent.updates:,}"
        if counters.nonfinite_in_a_row > allowed:
            self._give_up(metrics, what)
        total = counters.nonfinite_updates
        if math.log10(total).is_integer():
            so_far = f" ({total:,} so far)" if total > 1 else ""
            self.log(
                f"{what}, so the optimizers that it reached skipped this update{so_far}. More than {allowed} in a row "
                "(training.max_nonfinite_updates) end the run."
            )

    def _give_up(self, metrics: Mapping[str, Tensor], what: str) -> NoReturn:
        assert self._start is not None
        folder = self.failures_dir / f"update-{self.agent.updates:09d}"
        try:
            write_failed_update(folder, self._start, metrics)
            repeat = f"`{shlex.join(['reverie', 'replay-step', str(folder)])}` repeats the update."
        except CheckpointError as error:
            repeat = f"The update could not be kept: {error}"
        raise Diverged(
            f"{what}, number {self.counters.nonfinite_in_a_row} in a row. The run ends without saving these weights "
            f"(training.max_nonfinite_updates). {repeat} Continue with --resume, perhaps with lower learning rates."
        )


def first_nonfinite(metrics: Mapping[str, Tensor]) -> str:
    """Return the non-finite metric that says most: a loss, else a norm of gradients, else another one."""
    names = [name for name, value in metrics.items() if not math.isfinite(float(value))]
    return min(names, key=lambda name: (not name.endswith("loss"), not name.endswith("_norm")), default="A loss")
