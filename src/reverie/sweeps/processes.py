"""Processes of runs: each is `reverie train ... --resume`, so that a run is continued by starting it again.

If the process that started them is killed, they end, too (see `child.py`); until one has, the lock of its run folder
keeps another process from starting that run.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from typing_extensions import override

from reverie.errors import ReverieError, RunError
from reverie.sweeps.planned_runs import PlannedRun
from reverie.sweeps.status import RunStatus, State

LOG = "output.log"
"""In a run folder: the commands of the run's processes, and what they wrote."""
PATIENCE = 150.0
"""Seconds that runs have to end with a checkpoint, before they are killed."""
STOPPING = "Stopping, each run with a checkpoint. Press Ctrl-C again to stop at once."


@runtime_checkable
class Process(Protocol):
    """The part of `subprocess.Popen` that is used here."""

    returncode: Any

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""

    def wait(self, timeout: float) -> int:
        """Wait for the exit code; raise `subprocess.TimeoutExpired` after `timeout` seconds."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """End it, and its own children, at once."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: Any) -> None: ...


class LocalProcess(subprocess.Popen[bytes]):
    """A child of this process, in a session of its own: Ctrl-C in the terminal is for the sweep, which passes it on."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        with log.open("ab") as output:
            super().__init__(
                command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @override
    def kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def reverie_command(run: PlannedRun, folder: Path) -> list[str]:
    """Return the command that starts or continues a run, in a process that ends with this one."""
    return [sys.executable, "-m", "reverie.sweeps.child", *run.arguments(folder)]


class RunningRun:
    """A run that a process trains.

    Args:
        status: of the run, which is waiting.
        command: that trains it.
        process: starts a command whose output goes to a file.

    Raises:
        OSError: if the run folder cannot be written.
    """

    def __init__(self, status: RunStatus, command: list[str], process: Callable[[list[str], Path], Process]) -> None:
        self.status, self._log = status, status.folder.path / LOG
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as log:
            log.write(f"$ {shlex.join(command)}\n")
        self._began_at = status.saved_step
        self.process = process(command, self._log)
        status.state = State.RUNNING

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return self.process.poll() is not None

    def result(self) -> State:
        """Return the state after the process has ended: DONE, or WAITING where a machine that was lost had trained it.

        Raises:
            ReverieError: if the run has failed, with the reason.
        """
        with self.process as ended:
            pass
        self.status.read()
        is_lost = getattr(ended, "is_lost", False) and self.status.saved_step > self._began_at
        if self.status.state is not State.DONE and not is_lost:
            raise RunError(_reason(self._log, ended.returncode))
        return self.status.state

    def kill(self) -> None:
        """End the process at once, if it has not ended."""
        with self.process:
            self.process.kill()


def stop(running: Collection[RunningRun]) -> None:
    """Let processes end with a checkpoint, and read what they have saved."""
    for each in running:
        each.process.terminate()
    deadline = time.monotonic() + PATIENCE
    for each in running:
        with suppress(subprocess.TimeoutExpired, ReverieError):
            each.process.wait(max(deadline - time.monotonic(), 0))
            each.status.read()


def _reason(log: Path, code: int) -> str:
    """Return why a process failed: the last line that it wrote, or the signal that ended it."""
    if code <= 0:
        return f"ended by {signal.Signals(-code).name}" if code else "it ended before its planned steps"
    last = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()][-1]
    return f"exit status {code}, without output" if last.startswith("$ ") else last.removeprefix("error: ")
