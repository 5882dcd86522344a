"""Disk space that a run can take."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from reverie.replay import largest_size
from reverie.runs.checkpoints import Checkpoints
from reverie.training.callbacks import Callback, Run


@dataclass(eq=False)
class DiskUsage(Callback):
    """Prints at the start what a run can take at most, what is free, and what to do if it may not fit."""

    checkpoints: Checkpoints
    """The start has written one."""

    @override
    def on_start(self, run: Run) -> None:
        newest = self.checkpoints.latest()
        if newest is None:
            return
        settings, capacity = run.config.training, run.config.replay.capacity
        # The steps of the last two commits are kept, and the first steps of episodes are stored, too.
        replay = largest_size(run.spec.step, min(capacity + 2 * settings.checkpoint_every, 2 * settings.steps))
        # All have the same size. Two more are the best one, and one that is being written.
        checkpoints = _size(newest) * (settings.keep_checkpoints + 2)
        used, free = _size(run.path), shutil.disk_usage(run.path).free
        text = (
            f"Disk: at most {_gib(replay + checkpoints)} ({_gib(replay)} of replay, {_gib(checkpoints)} of "
            f"checkpoints), besides videos and metrics; {_gib(free)} are free."
        )
        if replay + checkpoints > used + free:
            text += " It may not fit: lower replay.capacity or training.keep_checkpoints, or free some space."
        run.log(text)


def _size(folder: Path) -> int:
    """Return bytes on the disk, which for files with holes are fewer than their length."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:,.0f} MiB"
