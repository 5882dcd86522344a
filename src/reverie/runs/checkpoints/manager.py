"""The checkpoints of a run: which ones are kept, and which one is read."""

import errno
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from reverie.errors import CheckpointError
from reverie.runs.atomic_io import Json, remove, sync
from reverie.runs.checkpoints.format import TEMPORARY, Shapes, Snapshot, disk_errors, read_checkpoint, write_folder
from reverie.runs.checkpoints.manifest import Damaged, checkpoints_in, read_manifest, step_and_copy


class Checkpoints:
    """The checkpoints of a run: the last `keep`, and the one with the best score, to which `best` is a link.

    Only the process that holds the run's lock may save; others may read at any time.
    """

    def __init__(self, directory: Path, keep: int = 3) -> None:
        """`directory` need not exist yet; `keep` is at least 1."""
        if keep < 1:
            raise ValueError(f"keep is {keep}, but at least one checkpoint must be kept")
        self.directory = Path(directory)
        self.keep = keep

    def save(self, step: int, snapshot: Snapshot, score: float | None = None) -> Path:
        """Write a checkpoint, then remove those that need not be kept any longer.

        Args:
            step: agent steps taken so far.
            snapshot: the content.
            score: mean evaluation return that belongs to these weights, if any. The highest one is kept; of equal
                ones the latest.

        Returns:
            The new folder.

        Raises:
            CheckpointError: if the disk is full or not writable. Earlier checkpoints are intact then.
        """
        if score is not None:
            score = float(score) if math.isfinite(score) else None
        previous = self.latest()
        kept = f" {previous.name} is intact." if previous else " There is no earlier one."
        ending = ", then continue with --resume" if previous else ", then try again"
        folder = self._free_name(step)
        with disk_errors(f"The checkpoint of step {step:,} could not be written to {self.directory}", kept, ending):
            self._remove_temporary()  # Left by a killed process.
            write_folder(folder, step, snapshot, score)
        problem = f"{folder} is written, but earlier checkpoints in {self.directory} could not be removed"
        with disk_errors(problem, ending=", then continue with --resume"):
            self.link_best()
            self._prune(folder)
            self._remove_temporary()
        return folder

    def list(self) -> tuple[Path, ...]:
        """Return every checkpoint, oldest first; `best` is one of them and not listed again."""
        return checkpoints_in(self.directory)

    def latest(self) -> Path | None:
        """Return the newest checkpoint, valid or not; None if there is none."""
        return self.list()[-1] if self.list() else None

    def best(self) -> Path | None:
        """Return the checkpoint with the highest score, the newest of equal ones; None if none has a score."""
        best, best_score = None, -math.inf
        for path in self.list():
            with suppress(Damaged):
                score = read_manifest(path)["score"]
                if score is not None and score >= best_score:
                    best, best_score = path, score
        return best

    def load(
        self,
        path: Path | None = None,
        device: torch.device | str = "cpu",
        check: Callable[[dict[str, Json], Shapes], None] | None = None,
    ) -> tuple[int, Snapshot]:
        """Read a checkpoint, the newest one by default; see `read_checkpoint`.

        Raises:
            CheckpointError: if there is none, or it is damaged. No other one is read silently: the message names a
                valid one and how to continue from it.
        """
        if path is not None:
            return read_checkpoint(Path(path), device, check)
        while (latest := self.latest()) is not None:
            try:
                return read_checkpoint(latest, device, check)
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
            self._discard(link)
        temporary = self.directory / (TEMPORARY + "best")
        try:
            os.symlink(best.name, temporary)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP):  # A file system without links; best() still finds it.
                return
            raise
        os.replace(temporary, link)

    def _free_name(self, step: int) -> Path:
        """Return a free name: a checkpoint is never overwritten, not even by a later one of the same step."""
        copies = [copy for other, copy in (step_and_copy(path.name) for path in self.list()) if other == step]
        return self.directory / (f"step-{step:09d}" + (f"-{max(copies) + 1}" if copies else ""))

    def _prune(self, written: Path) -> None:
        newest = {step_and_copy(path.name)[0]: path for path in self.list()}  # Of one step only the last copy counts.
        kept = {written, self.best(), *[*newest.values()][-self.keep :]}
        for path in self.list():
            if path not in kept:
                self._discard(path)

    def _discard(self, path: Path) -> None:
        """Rename a checkpoint to what `_remove_temporary` removes: half of one would be taken for a damaged one."""
        doomed = path.with_name(TEMPORARY + "old-" + path.name)
        remove(doomed)
        os.replace(path, doomed)

    def _remove_temporary(self) -> None:
        if doomed := list(self.directory.glob(TEMPORARY + "*")):
            sync(self.directory)  # Else a power cut may restore the names, and not the files.
            for path in doomed:
                remove(path)
