"""Non-finite updates: counted, and too many in a row end the run."""

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
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

    The result of a CPU is read at once. That of a GPU is read after the next update was queued, so that the GPU does
    not wait for the host; but at once after a skipped update, and where none is allowed.
    """

    agent: Dreamer
    counters: Counters
    failures_dir: Path
    """Folder for updates that end the run."""
    log: Callable[[str], None]
    is_eager: bool | None = None
    """Read every result at once; None decides by the device."""
    _pending: "_Pending | None" = None
    _start: Snapshot | None = None

    def __post_init__(self) -> None:
        if self.is_eager is None:
            self.is_eager = self.agent.device.type == "cpu"
        self._allowed = self.agent.config.training.max_nonfinite_updates

    def before_update(self, batch: Mapping[str, Tensor], is_world_model_only: bool) -> None:
        """Keep the state before an update that could end the run; other updates take no memory."""
        self._start = None
        if self.counters.nonfinite_in_a_row >= self._allowed:
            self._start = beginning(self.agent, batch, is_world_model_only)

    def after_update(self, metrics: Mapping[str, Tensor], is_skipped: Tensor) -> None:
        """Count an update, now or after the next; raise Diverged after one skipped update in a row too many."""
        earlier, self._pending = self._pending, _Pending(self.agent.updates, metrics, is_skipped)
        if earlier:
            self._count(earlier)
        if self.is_eager or not self._allowed or self.counters.nonfinite_in_a_row:
            self.flush()

    def flush(self) -> None:
        """Count the result that was not read yet; raises as `after_update` does."""
        pending, self._pending = self._pending, None
        if pending:
            self._count(pending)

    def _count(self, update: "_Pending") -> None:
        counters = self.counters
        if not update.is_skipped:
            counters.nonfinite_in_a_row = 0
            return
        counters.nonfinite_updates += 1
        counters.nonfinite_in_a_row += 1
        what = f"{first_nonfinite(update.metrics)} was not finite in update {update.number:,}"
        # A result that is read late may find that the state was not kept. Then one more update is allowed.
        if counters.nonfinite_in_a_row > self._allowed and self._start:
            self._give_up(update, self._start, what)
        if math.log10(counters.nonfinite_updates).is_integer():
            total = counters.nonfinite_updates
            self.log(
                f"{what}, so the optimizers that it reached skipped this update"
                + (f" ({total:,} so far)" if total > 1 else "")
                + f". More than {self._allowed} in a row (training.max_nonfinite_updates) end the run."
            )

    def _give_up(self, update: "_Pending", start: Snapshot, what: str) -> NoReturn:
        folder = self.failures_dir / f"update-{update.number:09d}"
        command = shlex.join(["reverie", "replay-step", str(folder)])
        try:
            write_failed_update(folder, start, update.metrics)
            repeat = f"`{command}` repeats the update."
        except CheckpointError as error:
            repeat = f"The update could not be kept: {error}"
        count = self.counters.nonfinite_in_a_row
        in_a_row = f"It is number {count} in a row, and" if count > 1 else "It was skipped, and"
        raise Diverged(
            f"{what}. {in_a_row} training.max_nonfinite_updates is {self._allowed}: the run ends without saving these "
            f"weights. {repeat} Continue with --resume from the checkpoint before, perhaps with lower learning rates."
        )


class _Pending:
    """An update whose result was not read yet."""

    def __init__(self, number: int, metrics: Mapping[str, Tensor], flag: Tensor) -> None:
        self.number, self.metrics = number, metrics
        self._flag = flag.to("cpu", non_blocking=True)
        self._copied = None
        if flag.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(flag.device))

    @property
    def is_skipped(self) -> bool:
        """True if an optimizer was skipped; waits for the device."""
        if self._copied:
            self._copied.synchronize()
        return bool(self._flag)


def first_nonfinite(metrics: Mapping[str, Tensor]) -> str:
    """Return the non-finite metric that says most: a loss, else a norm of gradients, else another one."""
    names = [name for name, value in metrics.items() if not math.isfinite(float(value))]
    return min(names, key=lambda name: (not name.endswith("loss"), not name.endswith("_norm")), default="A loss")
