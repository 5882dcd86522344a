"""The checkpoints of a run: which ones are kept, and which one is read."""

import errno
import math
import os
from contextlib import suppress
from pathlib import Path

from reverie.errors import CheckpointError
from reverie.runs.atomic_io import Unreadable, remove, sync
from reverie.runs.checkpoint import (
    TEMPORARY,
    Snapshot,
    checkpoints_in,
    disk_errors,
    read_checkpoint,
    read_manifest,
    step_and_copy,
    write_checkpoint,
)


class Checkpoints:
    """The checkpoints of a run: the last `keep`, and the one with the best score, to which `best` is a link.

    Only the process that holds the run's lock may save; others may read at any time. The folder need not exist yet.
    """

    def __init__(self, directory: Path, keep: int = 3) -> None:
        self.directory, self.keep = Path(directory), keep

    def save(self, step: int, snapshot: Snapshot, score: float | None = None) -> Path:
        """Write a checkpoint, then remove those that need not be kept any longer.

        Args:
            step: agent steps taken so far.
            snapshot: the content.
            score: mean evaluation return that belongs to these weights, if any. The highest one is kept; of equal
                ones the latest.

        Returns:
            The new folder. A checkpoint is never overwritten, not even by a later one of the same step.

        Raises:
            CheckpointError: if the disk is full or not writable. Earlier checkpoints are intact then.
        """
        copies = [copy for other, copy in (step_and_copy(path.name) for path in self.list()) if other == step]
        folder = self.directory / (f"step-{step:09d}" + (f"-{max(copies) + 1}" if copies else ""))
        with disk_errors(f"Unfinished checkpoints in {self.directory} could not be removed"):
            self._remove_temporary()  # Left by a killed process.
        write_checkpoint(folder, step, snapshot, score if score is not None and math.isfinite(score) else None)
        with disk_errors(f"{folder} is written, but earlier ones could not be removed"):
            self.link_best()
            newest = {step_and_copy(path.name)[0]: path for path in self.list()}  # Of one step only the last copy.
            for path in {*self.list()} - {folder, self.best(), *[*newest.values()][-self.keep :]}:
                _discard(path)
            self._remove_temporary()
        return folder

    def list(self) -> tuple[Path, ...]:
        """Return every checkpoint, oldest first, valid or not; `best` is one of them and not listed again."""
        return checkpoints_in(self.directory)

    def latest(self) -> Path | None:
        """Return the newest checkpoint, valid or not; None if there is none."""
        return next(reversed(self.list()), None)

    def best(self) -> Path | None:
        """Return the checkpoint with the highest score, the newest of equal ones; None if none has a score."""
        best, best_score = None, -math.inf
        for path in self.list():
            with suppress(Unreadable):
                score = read_manifest(path)["score"]
                if score is not None and score >= best_score:
                    best, best_score = path, score
        return best

    def load(self) -> tuple[int, Snapshot]:
        """Read the newest checkpoint, see `read_checkpoint`.

        Raises:
            CheckpointError: if there is none, or it is damaged. No other one is read silently: the message names a
                valid one and how to continue from it.
        """
        while (latest := self.latest()) is not None:
            try:
                return read_checkpoint(latest)
            except CheckpointError:
                if latest.exists():
                    raise
                # A run in training removed it while it was read; there is a newer one.
        raise CheckpointError(f"There is no checkpoint in {self.directory}: no folder there is named step-*.")

    def link_best(self) -> None:
        """Let `best` point to the best checkpoint."""
        best, link = self.best(), self.directory / "best"
        if best is None or (link.is_symlink() and os.readlink(link) == best.name):
            return
        if link.is_dir() and not link.is_symlink():  # The run was copied by a tool that follows links.
            _discard(link)
        temporary = self.directory / f"{TEMPORARY}best"
        try:
            os.symlink(best.name, temporary)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP):  # A file system without links; best() still finds it.
                return
            raise
        os.replace(temporary, link)

    def _remove_temporary(self) -> None:
        if doomed := [*self.directory.glob(f"{TEMPORARY}*")]:
            sync(self.directory)  # Else a power cut may restore the names, and not the files.
            for path in doomed:
                remove(path)


def _discard(path: Path) -> None:
    """Rename a checkpoint to what `_remove_temporary` removes: half of one would be taken for a damaged one."""
    doomed = path.with_name(f"{TEMPORARY}old-{path.name}")
    remove(doomed)
    os.replace(path, doomed)
