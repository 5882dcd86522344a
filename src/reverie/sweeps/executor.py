"""Runs the runs of a sweep as child processes, some at a time, on this machine or in a Ray cluster.

Each is `reverie train ... --resume`: a sweep is resumed by typing it again. If the sweep is killed, its children end,
too (see `child.py`); until one has, the lock of its run folder keeps another process from starting that run.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.live import Live
from typing_extensions import override

from reverie.errors import ReverieError, RunError
from reverie.runs.atomic_io import atomic_write, remove, to_json
from reverie.runs.layout import SWEEP
from reverie.runs.locks import acquire_lock
from reverie.runs.run_folder import RunFolder
from reverie.sweeps.plan import Plan
from reverie.sweeps.planned_runs import PlannedRun
from reverie.sweeps.status import RunStatus, State, Sweep, status_table
from reverie.training.stop_signal import Interrupted, StopSignal

LOCK = ".sweep.lock"
"""In the folder of a sweep: locked while its runs are run."""
LOG = "output.log"
"""In a run folder: the commands of the run's processes, and what they wrote."""
PATIENCE = 150.0
"""Seconds that runs have to end with a checkpoint, before they are killed."""


def survey(plan: Plan, runs: Sequence[PlannedRun], folder: Path) -> Sweep:
    """Read the status of all runs but duplicates in the folder of a sweep; raise ReverieError as `read` does."""
    sweep = Sweep(plan.name, folder, plan.workers, [RunStatus(run, folder) for run in runs if not run.duplicate_of])
    for status in sweep.runs:
        status.read()
    return sweep


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Create and lock the folder of a sweep; raise RunError if it is in use, holds a run, or cannot be written."""
    if RunFolder(folder).config_path.exists():
        raise RunError(f"{folder} holds a run and not a sweep. Choose another folder with --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(folder / LOCK)
    except OSError as error:
        raise RunError(f"{folder} cannot be written ({error.strerror}). Choose another folder with --out.") from error
    if lock is None:
        raise RunError(f"Another sweep runs in {folder}. Nothing was started. Wait for its end, or stop it.")
    with lock:
        yield


@contextmanager
def sweep_folder(plan: Plan, runs: Sequence[PlannedRun], folder: Path) -> Iterator[None]:
    """Lock the folder of a sweep, and save the plan in it, so that `reverie sweep FOLDER` continues it."""
    with locked_folder(folder):
        planned = [run.path.as_posix() for run in runs]
        atomic_write(folder / SWEEP, to_json({"format": 1, "plan": plan.to_json(), "runs": planned}))
        yield


def reverie_command(run: PlannedRun, folder: Path) -> list[str]:
    """Return the command that starts or continues a run, in a process that ends with this one."""
    return [sys.executable, "-m", "reverie.sweeps.child", *run.arguments(folder)]


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


def execute(
    sweep: Sweep,
    console: Console,
    *,
    command: Callable[[PlannedRun, Path], list[str]] = reverie_command,
    process: Callable[[list[str], Path], Process] = LocalProcess,
    keep_replay: bool = True,
    poll: float = 0.5,
) -> None:
    """Run what is left of a sweep, until every run is done or has failed.

    The console shows a line when a run begins or ends, on a terminal a table of the running ones, and all at the end.
    `process` starts a command whose output goes to a file. The processes are checked every `poll` seconds;
    `keep_replay=False` removes the replay of a run that is done.

    Raises:
        Interrupted: on Ctrl-C, SIGTERM or SIGHUP, after all runs have ended with a checkpoint.
    """
    children: dict[RunStatus, Process] = {}
    started_at: dict[RunStatus, int] = {}

    def say(message: str) -> None:
        console.print(message, markup=False, soft_wrap=True)

    def start(status: RunStatus) -> None:
        try:
            status.read()  # another process may run it, or have finished it
            if status.state is State.WAITING:
                words = command(status.run, sweep.folder)
                status.folder.path.mkdir(parents=True, exist_ok=True)
                with (status.folder.path / LOG).open("a") as log:
                    log.write(f"$ {shlex.join(words)}\n")
                children[status] = process(words, status.folder.path / LOG)
                status.state, started_at[status] = State.RUNNING, status.saved_step
                say(f"{status.run.name} {f'continues at step {status.step:,}' if status.step else 'begins'}")
        except (OSError, ReverieError) as error:
            fail(status, getattr(error, "strerror", None) or str(error))

    def settle(status: RunStatus, child: Process) -> None:
        try:
            status.read()
        except ReverieError as error:
            return fail(status, str(error))
        has_advanced = status.saved_step > started_at[status]
        if status.state is not State.DONE and getattr(child, "is_lost", False) and has_advanced:
            return say(f"{status.run.name} has lost its machine at step {status.step:,} and continues on another one")
        if status.state is not State.DONE:
            return fail(status, failure(status.folder.path / LOG, child.returncode))
        say(f"{status.run.name} is done: last score {status.score}")
        if not keep_replay:
            with suppress(OSError):
                remove(status.folder.replay)

    def fail(status: RunStatus, why: str) -> None:
        status.state, status.error = State.FAILED, why
        say(f"{status.run.name} failed: {why}")

    with (
        Live(console=console, auto_refresh=False, transient=True) as live,
        StopSignal(lambda: say("Stopping, each run with a checkpoint. Press Ctrl-C again to stop at once.")) as stop,
    ):
        try:
            while not stop.requested and (children or sweep.unfinished):
                for status, child in list(children.items()):
                    status.read_metrics()
                    if child.poll() is not None:
                        with children.pop(status):
                            settle(status, child)
                for status in sweep.unfinished:
                    if status not in children and len(children) < sweep.workers:
                        start(status)
                live.update(status_table(children, sweep.summary()), refresh=True)
                time.sleep(poll)
            for child in children.values():
                child.terminate()
            deadline = time.monotonic() + PATIENCE
            for status, child in children.items():
                with suppress(subprocess.TimeoutExpired, ReverieError):
                    child.wait(max(deadline - time.monotonic(), 0))
                    status.read()
        finally:
            for child in children.values():
                with child:
                    child.kill()
    console.print(status_table(sweep.runs, sweep.summary()))
    if stop.requested:
        raise Interrupted("", stop.signal)


def failure(log: Path, code: int) -> str:
    """Return why a process failed: the last line that it wrote, or the signal that ended it."""
    if code <= 0:
        return f"ended by {signal.Signals(-code).name}" if code else "it ended before its planned steps"
    last = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()][-1]
    return f"exit status {code}, without output" if last.startswith("$ ") else last.removeprefix("error: ")
