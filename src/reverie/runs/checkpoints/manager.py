"""The checkpoints of a run: which ones are kept, and which one is read."""

import errno
import math
import os
from contextlib import suppress
from pathlib import Path

import torch

from reverie.errors import CheckpointError
from reverie.runs.atomic_io import sync_dir
from reverie.runs.checkpoints.format import (
    TEMPORARY,
    Damaged,
    Snapshot,
    is_valid,
    order,
    read_checkpoint,
    read_manifest,
    reason,
    remedy,
    remove,
    steps_in,
    write_folder,
)


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
        """Write a checkpoint, then remove what need not be kept any longer.

        Args:
            step: agent steps taken so far.
            snapshot: what to write.
            score: mean evaluation return that belongs to these weights, if any. The highest one is kept; of equal
                ones the latest.

        Returns:
            The new folder.

        Raises:
            CheckpointError: if the disk is full, or does not let us. Earlier checkpoints are intact then.
        """
        if score is not None:
            score = float(score) if math.isfinite(score) else None
        previous = self.latest()
        try:
            self._clean()
            folder = self._name(step)
            write_folder(folder, step, snapshot, score, {})
        except OSError as error:
            kept = f"{previous.name} is intact" if previous else "there is no earlier one"
            then = "go on with --resume" if previous else "try again"
            raise CheckpointError(
                f"The checkpoint of step {step} could not be written to {self.directory} ({reason(error)}); "
                f"{kept}: {remedy(error)}, then {then}."
            ) from error
        try:
            self.link_best()
            sync_dir(self.directory)  # the link must not point to what is removed next
            self._prune(folder)
        except OSError as error:
            raise CheckpointError(
                f"{folder} is written, but earlier checkpoints in {self.directory} could not be tidied up "
                f"({reason(error)}); {remedy(error)}, then go on with --resume."
            ) from error
        return folder

    def list(self) -> tuple[Path, ...]:
        """Every checkpoint, oldest first; `best` is one of them and not listed again."""
        return steps_in(self.directory)

    def latest(self) -> Path | None:
        """The newest checkpoint, sound or not; None if there is none."""
        return self.list()[-1] if self.list() else None

    def latest_valid(self) -> Path | None:
        """The newest checkpoint whose checksums are right; reads every byte of it."""
        return next((path for path in reversed(self.list()) if is_valid(path)), None)

    def best(self) -> Path | None:
        """The checkpoint with the highest score, the newest of equal ones; None if none has a score."""
        best, best_score = None, -math.inf
        for path in self.list():
            with suppress(Damaged):
                score = read_manifest(path)["score"]
                if score is not None and score >= best_score:
                    best, best_score = path, score
        return best

    def load(self, path: Path | None = None, device: torch.device | str = "cpu") -> tuple[int, Snapshot]:
        """Read a checkpoint, the newest one by default; see `read_checkpoint`.

        Raises:
            CheckpointError: if there is none, or it is damaged. It never falls back silently: the message names a
                sound one and how to go on from it.
        """
        if path is not None:
            return read_checkpoint(Path(path), device)
        while (latest := self.latest()) is not None:
            try:
                return read_checkpoint(latest, device)
            except CheckpointError:
                if latest.exists():
                    raise
                # A run that is still going on removed it while we read; it has written a newer one.
        raise CheckpointError(f"There is no checkpoint in {self.directory}: no folder there is named step-*.")

    def _name(self, step: int) -> Path:
        """A name that is free: a checkpoint is never overwritten, not even by a later one of the same step."""
        copies = [copy for other, copy in map(order, (path.name for path in self.list())) if other == step]
        return self.directory / (f"step-{step:09d}" + (f"-{max(copies) + 1}" if copies else ""))

    def _clean(self) -> None:
        """Remove what a killed process left half written or half removed."""
        for path in self.directory.glob(TEMPORARY + "*"):
            remove(path)

    def link_best(self) -> None:
        """Let `best` point to the best checkpoint there is."""
        best, link = self.best(), self.directory / "best"
        if best is None or (link.is_symlink() and os.readlink(link) == best.name):
            return
        if link.is_dir() and not link.is_symlink():  # the run was copied by a tool that follows links
            self._discard(link)
        temporary = self.directory / (TEMPORARY + "best")
        try:
            os.symlink(best.name, temporary)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP):  # a file system without links; best() still finds it
                return
            raise
        os.replace(temporary, link)

    def _prune(self, written: Path) -> None:
        newest = {order(path.name)[0]: path for path in self.list()}  # of one step only the last copy counts
        kept = {written, self.best(), *[*newest.values()][-self.keep :]}
        for path in self.list():
            if path not in kept:
                self._discard(path)

    def _discard(self, path: Path) -> None:
        # Renamed first, so that a checkpoint half removed is never taken for a damaged one.
        doomed = path.with_name(TEMPORARY + "old-" + path.name)
        remove(doomed)
        os.replace(path, doomed)
        remove(doomed)
