"""Updates that are skipped because a loss or its gradients are not finite: counted, and too many in a row end a run."""

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from reverie.errors import CheckpointError, RunError
from reverie.runs.checkpoints import Snapshot
from reverie.training.failed_update import beginning, write_failed_update
from reverie.training.run_state import RunState


class Diverged(RunError):
    """Numbers are no longer finite; weights of this moment are not worth going on from."""


class Skips:
    """Counts skipped updates in the run's `LoopState`, and ends the run where there are too many in a row.

    A CPU's result is looked at once. A GPU's is looked at after the next update was queued, so that the GPU never waits
    for the host; but at once after an update that was skipped, and where none is allowed.

    Args:
        parts: of the run.
        folder: where updates that end the run are kept.
        log: shows a line to the user.
        at_once: None decides by the device.
    """

    def __init__(self, parts: RunState, folder: Path, log: Callable[[str], None], at_once: bool | None = None) -> None:
        self._parts, self._folder, self._log = parts, folder, log
        self._allowed = parts.agent.config.training.max_nonfinite_updates
        self._at_once = parts.agent.device.type == "cpu" if at_once is None else at_once
        self._pending: _Pending | None = None
        self._kept: Snapshot | None = None

    def before(self, batch: Mapping[str, Tensor], world_model_alone: bool) -> None:
        """Keep what the next update begins with, if it could be the last one; nothing else waits or takes memory."""
        self._kept = None
        if self._parts.loop.skipped_in_a_row >= self._allowed:
            self._kept = beginning(self._parts.agent, batch, world_model_alone)

    def after(self, metrics: Mapping[str, Tensor], skipped: Tensor) -> None:
        """Look at what came of an update, now or later.

        Args:
            metrics: of the update.
            skipped: not 0 if it was skipped.

        Raises:
            Diverged: if it was one skipped update in a row too many.
        """
        earlier, self._pending = self._pending, _Pending(self._parts.agent.updates, metrics, skipped)
        if earlier:
            self._count(earlier)
        if self._at_once or not self._allowed or self._parts.loop.skipped_in_a_row:
            self.settle()

    def settle(self) -> None:
        """Look at what has not been looked at yet; raises as `after` does."""
        pending, self._pending = self._pending, None
        if pending:
            self._count(pending)

    def _count(self, update: "_Pending") -> None:
        loop = self._parts.loop
        if not update.skipped:
            loop.skipped_in_a_row = 0
            return
        loop.skipped += 1
        loop.skipped_in_a_row += 1
        reason = f"{culprit(update.metrics)} was not finite in update {update.number:,}"
        # One of which was only known when the next had begun may leave none of them kept: that is one attempt more.
        if loop.skipped_in_a_row > self._allowed and self._kept:
            self._give_up(update, self._kept, reason)
        if math.log10(loop.skipped).is_integer():
            so_far = "" if loop.skipped == 1 else f" So far {loop.skipped:,} updates were skipped."
            self._log(
                f"{reason}: what it would have spoiled was left as it was.{so_far} More than {self._allowed} such "
                "updates in a row (training.max_nonfinite_updates) end the run."
            )

    def _give_up(self, update: "_Pending", begun: Snapshot, reason: str) -> NoReturn:
        folder = self._folder / f"update-{update.number:09d}"
        look = f"look at it with `{shlex.join(['reverie', 'replay-step', str(folder)])}`, and"
        try:
            write_failed_update(folder, begun, update.metrics)
        except CheckpointError as error:
            look = f"it could not be kept: {error} Then"
        count = self._parts.loop.skipped_in_a_row - 1
        skipped = f"It was skipped, as were the {count} before it" if count else "It was skipped"
        raise Diverged(
            f"{reason}. {skipped}, and training.max_nonfinite_updates is {self._allowed}. Weights that so many "
            f"batches break were not saved: {look} "
            f"continue with --resume from the checkpoint before, for example with lower learning rates."
        )


@dataclass
class _Pending:
    """An update of which nobody knows yet whether it was skipped."""

    number: int
    """Of the updates so far, this one included."""
    metrics: Mapping[str, Tensor]
    flag: InitVar[Tensor]

    def __post_init__(self, flag: Tensor) -> None:
        self._flag = flag.to("cpu", non_blocking=True)
        self._arrived = None
        if flag.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(flag.device))

    @property
    def skipped(self) -> bool:
        """Waits until the device knows."""
        if self._arrived:
            self._arrived.synchronize()
        return bool(self._flag)


def culprit(metrics: Mapping[str, Tensor]) -> str:
    """The metric that best names what was not finite: a loss before a norm of gradients before all others."""
    broken = [name for name, value in metrics.items() if not math.isfinite(float(value))]
    return min(broken, key=lambda name: (not name.endswith("loss"), not name.endswith("_norm")), default="A loss")
