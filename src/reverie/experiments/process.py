"""The process of a cell, and the lock by which no two sweeps run the same cell.

The sweep holds the lock while the process runs. If the sweep is killed, the process ends, too (see `child.py`), and
until it has, the lock of its run folder says that the cell is running.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock

from reverie.errors import RunError
from reverie.experiments.cells import Cell
from reverie.runs.locks import acquire_lock, is_locked
from reverie.runs.run_folder import RunFolder

LOG = "cell.log"
"""In a run folder: standard output and standard error of the cell's processes."""
LOCK = ".cell.lock"

Command = Callable[[Cell, Path], list[str]]
"""The command that runs a cell in the folder of a sweep, or continues it."""


def reverie_command(cell: Cell, folder: Path) -> list[str]:
    """Return the command `reverie train`, in a process that ends with this one."""
    return [sys.executable, "-m", "reverie.experiments.child", *cell.arguments(folder)]


def is_running(run: Path) -> bool:
    """Return whether a process runs the cell of this run folder."""
    return is_locked(run / LOCK) or RunFolder(run).is_locked()


def acquire_cell(run: Path) -> BaseFileLock | None:
    """Lock the cell of a run folder, which is created; None if another process runs it.

    Raises:
        RunError: if nothing can be written there.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(run / LOCK)
    except OSError as error:
        raise RunError(
            f"{run} cannot be written ({error.strerror or error}). Check the disk and its permissions."
        ) from error
    if lock is not None and RunFolder(run).is_locked():
        lock.release()
        return None
    return lock


class Process:
    """A running cell, and its lock.

    Args:
        run: the run folder.
        command: runs the cell.
        lock: from `acquire_cell`; released by `close`.

    Raises:
        OSError: if the process cannot be started.
    """

    def __init__(self, run: Path, command: list[str], lock: BaseFileLock) -> None:
        self._lock = lock
        self._log = run / LOG
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with self._log.open("ab") as log:
            log.write(f"--- {now} {shlex.join(command)}\n".encode())
            log.flush()
            self._offset = log.tell()
            # A session of its own: Ctrl-C in the terminal is for the sweep, which passes it on once.
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def status(self) -> int | None:
        """Return the exit status, minus the number of the signal that ended it, or None while it runs."""
        return self._child.poll()

    def stop(self) -> None:
        """Ask it to end, with a checkpoint."""
        with suppress(ProcessLookupError):
            self._child.terminate()

    def kill(self) -> None:
        """End it and all processes that it has started, at once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self.close()

    def close(self) -> None:
        """Release the lock, after its end."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        self._lock.release()

    def error(self) -> str:
        """Return why it failed: the last line that it wrote, or the signal that ended it."""
        status = self.status()
        if status is not None and status < 0:
            with suppress(ValueError):
                return f"ended by {signal.Signals(-status).name}"
        try:
            with self._log.open("rb") as file:
                file.seek(self._offset)
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            lines = []
        written = [line.strip() for line in lines if line.strip()]
        return written[-1].removeprefix("error: ") if written else f"exit status {status}, without output"
