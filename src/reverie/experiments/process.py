"""The process of a cell, and the lock by which no two processes run the same cell.

The lock is the system's, on the cell's log file, and every process that writes to the log holds it. So it lasts as long
as the cell's process does, even if the sweep that started it was killed.
"""

import errno
import fcntl
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from reverie.errors import RunError
from reverie.experiments.cells import Cell
from reverie.runs.locks import is_locked

LOG = "cell.log"
"""In a run folder: what the processes of the cell wrote to standard output and standard error."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)

Command = Callable[[Cell, Path], list[str]]
"""The command that runs a cell in the folder of a sweep, or goes on with it."""


def reverie_command(cell: Cell, folder: Path) -> list[str]:
    """`reverie train`, in a process that ends with this one."""
    return [sys.executable, "-m", "reverie.experiments.child", *cell.arguments(folder)]


def is_claimed(run: Path) -> bool:
    """Whether a process runs the cell of this run folder."""
    return is_locked(run / LOG)


class Claim:
    """The exclusive right to run a cell; `take` gives it, unless another process has it."""

    def __init__(self, run: Path, log: int) -> None:
        self.run = run
        self._log = log

    @classmethod
    def take(cls, run: Path) -> "Claim | None":
        """Claim the cell of a run folder, which is created.

        Raises:
            RunError: if nothing can be written there.
        """
        try:
            run.mkdir(parents=True, exist_ok=True)
            log = os.open(run / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(log)
                return None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    os.close(log)
                    raise
        except OSError as error:
            raise RunError(
                f"{run} cannot be written ({error.strerror or error}); check the disk and its permissions."
            ) from error
        return cls(run, log)

    def release(self) -> None:
        """Give it back, unless a process was started with it: then it goes when that process ends."""
        os.close(self._log)

    def start(self, command: list[str]) -> "Process":
        """Run the cell."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        os.write(self._log, f"--- {now} {shlex.join(command)}\n".encode())
        offset = os.fstat(self._log).st_size
        # A session of its own: Ctrl-C in the terminal is for the sweep, which passes it on once.
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.release()
        return Process(child, self.run / LOG, offset)


class Process:
    """A running cell."""

    def __init__(self, child: "subprocess.Popen[bytes]", log: Path, offset: int) -> None:
        self._child = child
        self._log = log
        self._offset = offset

    def status(self) -> int | None:
        """Exit status, minus the number of the signal that ended it, or None while it runs."""
        return self._child.poll()

    def stop(self) -> None:
        """Ask it to end, with a checkpoint."""
        with suppress(ProcessLookupError):
            self._child.terminate()

    def kill(self) -> None:
        """End it and all that it has started, at once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def close(self) -> None:
        """Forget it, after its end."""
        if self._child.stdin is not None:
            self._child.stdin.close()

    def error(self) -> str:
        """Why it failed: the last line that it wrote, or what the system says of its end."""
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
        return written[-1].removeprefix("error: ") if written else f"exit status {status}, without a word"
