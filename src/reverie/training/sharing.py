"""How many CPU threads a run takes: the runs of one user on one machine divide its cores.

Programs with more threads in all than there are cores do not share them evenly: a program's threads wait for each
other actively, and keep the cores from those that they wait for. So every run leaves a note, a locked file in the
user's cache folder, and counts the notes of the others. A note whose lock is gone was left by a run that died.
"""

import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch

from reverie.kernels.compiler import cache_folder
from reverie.training.locks import hold, release

LOOK_EVERY = 2.0
"""Seconds between two looks at the other runs."""


class Note(NamedTuple):
    """What a run tells the others."""

    pid: int
    cores: tuple[int, ...]
    """Numbers of those that it may run on."""
    threads: int
    """What its user has set; 0 if it takes its share."""


class SharedCores:
    """A run's CPU threads: those that its user sets, or its share for as long as others run beside it.

    Use it as a context manager around the run; at its end PyTorch has as many threads as before. A number from
    `training.threads` or OMP_NUM_THREADS is never changed, and the other runs divide what it leaves.

    Args:
        threads: `training.threads`; 0 leaves the choice to OMP_NUM_THREADS or, without it, to this class.
    """

    def __init__(self, threads: int) -> None:
        self._before = torch.get_num_threads()
        if threads:
            torch.set_num_threads(threads)
        self._alone = self._threads = torch.get_num_threads()
        self._fixed = bool(threads) or _set_by_environment()
        self._note = Note(os.getpid(), _usable_cores(), self._alone if self._fixed else 0)
        self._path: Path | None = None
        self._lock = -1
        self._next_look = 0.0

    def __enter__(self) -> "SharedCores":
        with suppress(OSError):  # no such folder, or no locks in it: this run is as good as alone
            self._lock, self._path = _leave(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None:
            with suppress(OSError):  # without its lock, the note says nothing
                self._path.unlink()
            release(self._lock)
            self._path = None
        torch.set_num_threads(self._before)

    def look(self) -> str:
        """Take the share that this run has now; the other runs are counted every two seconds at most.

        Returns:
            What has changed, in words; empty if nothing has.
        """
        now = time.monotonic()
        if self._fixed or self._path is None or now < self._next_look:
            return ""
        self._next_look = now + LOOK_EVERY
        others = [note for note in _read_all(self._path) if set(note.cores) & set(self._note.cores)]
        threads = share(self._alone, [note.threads for note in others])
        if threads == self._threads:
            return ""
        self._threads = threads
        torch.set_num_threads(threads)
        if not others:
            return f"No other run shares the cores any more: this one takes {threads} threads."
        return (
            f"{len(others) + 1} runs share the cores: this one takes {threads} of {self._alone} threads "
            "(training.threads would fix their number)."
        )


def share(threads: int, others: Sequence[int]) -> int:
    """Threads of a run among others, one at least.

    Args:
        threads: what it takes when it is alone.
        others: the numbers of threads that are set for other runs; 0 for each that takes its share as well.
    """
    return max(1, (threads - sum(others)) // (1 + others.count(0)))


def give_way() -> None:
    """Take one thread, in a process that only acts, unless OMP_NUM_THREADS gives it another number.

    Acting gains little from more. A run does not notice such a process, and so is not changed by those who look at it.
    """
    if not _set_by_environment():
        torch.set_num_threads(1)


def _set_by_environment() -> bool:
    """Whether OMP_NUM_THREADS holds a number; what is none has no effect."""
    number = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return number.isdecimal() and int(number) > 0


def _usable_cores() -> tuple[int, ...]:
    return tuple(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def _folder() -> Path:
    """Of the notes. It bears the machine's name, since a home folder may be that of several machines."""
    return cache_folder() / "runs" / socket.gethostname()


def _leave(note: Note) -> tuple[int, Path]:
    """Write a note; it has its lock before it has the name by which others find it.

    Raises:
        OSError: if that cannot be done here.
    """
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", dir=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, json.dumps(note._asdict()).encode())
        path = folder / f"{note.pid}{Path(name).name}.json"
        os.rename(name, path)
    except OSError:
        os.unlink(name)
        os.close(descriptor)
        raise
    hold(descriptor)
    return descriptor, path


def _read_all(own: Path) -> list[Note]:
    """The notes beside one's own whose runs are alive; others are removed."""
    found = [_read(path) for path in own.parent.glob("*.json") if path != own]
    return [note for note in found if note is not None]


def _read(path: Path) -> Note | None:
    """The note of a run that is alive, or None."""
    try:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                said = json.load(file)
                return Note(int(said["pid"]), tuple(said["cores"]), int(said["threads"]))
            path.unlink()
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None
