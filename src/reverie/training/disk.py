"""Disk space that a run can take."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from reverie.config import Config
from reverie.replay import largest_size
from reverie.runs.checkpoints import Checkpoints
from reverie.specs import EnvSpec
from reverie.training.callbacks import Callback, Run

GIB = 1 << 30


@dataclass(eq=False)
class DiskUsage(Callback):
    """Prints at the start what a run can take at most, and what is free."""

    checkpoints: Checkpoints
    """The start has written one."""

    @override
    def on_start(self, run: Run) -> None:
        if newest := self.checkpoints.latest():
            run.log(announcement(run.config, run.spec, run.path, newest))


def announcement(config: Config, spec: EnvSpec, run_dir: Path, checkpoint: Path) -> str:
    """Return a sentence with the most that a run can take, what is free, and what to do if it may not fit."""
    settings = config.training
    # The steps of the last two commits are kept, and the first steps of episodes are stored, too.
    steps = min(config.replay.capacity + 2 * settings.checkpoint_every, 2 * settings.steps)
    replay = largest_size(spec.step, steps)
    # All have the same size. Two more are the best one, and one that is being written.
    checkpoints = _size(checkpoint) * (settings.keep_checkpoints + 2)
    used, free = _size(run_dir), shutil.disk_usage(run_dir).free
    text = (
        f"Disk: at most {_gib(replay + checkpoints)} ({_gib(replay)} of replay, {_gib(checkpoints)} of checkpoints), "
        f"besides videos and metrics; {_gib(free)} are free."
    )
    if replay + checkpoints > used + free:
        text += " It may not fit: lower replay.capacity or training.keep_checkpoints, or free some space."
    return text


def _size(folder: Path) -> int:
    """Return bytes on the disk, which for files with holes are fewer than their length."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _gib(size: int) -> str:
    return f"{size / GIB:,.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):,.0f} MiB"
