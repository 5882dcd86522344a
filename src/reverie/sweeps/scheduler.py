"""Runs the runs of a sweep in processes of their own: a number at a time, each once, even where others fail.

The sweep holds a lock of each run while its process runs. If the sweep is killed, the process ends, too (see
`child.py`), and until it has, the lock of its run folder says that it is running.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock

from reverie.errors import ReverieError, RunError
from reverie.runs.atomic_io import atomic_path, remove
from reverie.runs.locks import acquire_lock
from reverie.runs.run_folder import RunFolder
from reverie.sweeps.plan import PLAN_FILE, Plan
from reverie.sweeps.planned_runs import PlannedRun
from reverie.sweeps.status import FAILURE, LOCK, OPEN, RunStatus, State, SweepStatus
from reverie.sweeps.view import SweepView
from reverie.training.stop_signal import Interrupted, StopSignal

LOG = "output.log"
"""In a run folder: standard output and standard error of the run's processes."""
PATIENCE = 150.0
"""Seconds that runs have to end with a checkpoint, before they are killed."""

Command = Callable[[PlannedRun, Path], list[str]]
"""The command that starts or continues a run in the folder of a sweep."""


def reverie_command(run: PlannedRun, folder: Path) -> list[str]:
    """Return the command `reverie train`, in a process that ends with this one."""
    return [sys.executable, "-m", "reverie.sweeps.child", *run.arguments(folder)]


def survey(
    plan: Plan, runs: Sequence[PlannedRun], folder: Path, clock: Callable[[], float] = time.monotonic
) -> SweepStatus:
    """Read the status of every run in the folder of a sweep.

    Raises:
        RunError: if a run's folder holds one with other settings than the plan has for it.
        ConfigError: if the configuration of a run there cannot be read.
    """
    sweep = SweepStatus(plan.name, folder, plan.workers, [RunStatus(run, folder, clock) for run in runs])
    for status in sweep.of(State.WAITING):
        status.read()
        if status.state is State.WAITING:
            status.state = State.ELSEWHERE if status.is_locked() else State.WAITING
            status.error = status.read_failure()[0] if status.state is State.WAITING else ""
    if changed := sweep.of(State.CHANGED):
        more = f" (and {len(changed) - 1} more like it)" if len(changed) > 1 else ""
        raise RunError(
            f"{changed[0].folder.path} holds a run with other settings{more}: {changed[0].error}; undo that change, "
            "choose another folder with --out, or remove that run to have it run again."
        )
    return sweep


def save_plan(plan: Plan, folder: Path) -> None:
    """Keep the plan in the folder, so that `reverie sweep FOLDER` continues it.

    Raises:
        RunError: if the folder holds another sweep, or something that is not one.
        ReverieError: if it cannot be written.
    """
    path = folder / PLAN_FILE
    if path.is_file():
        try:
            name = json.loads(path.read_text(encoding="utf-8"))["plan"]["name"]
        except (OSError, ValueError, KeyError, TypeError):
            raise RunError(f"{path} cannot be read; remove it, or choose another folder with --out.") from None
        if name != plan.name:
            raise RunError(f"{folder} holds the sweep '{name}' and not '{plan.name}'; choose another with --out.")
    elif RunFolder(folder).config_path.exists():
        raise RunError(f"{folder} holds a run and not a sweep; choose another folder with --out.")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"format": 1, "plan": plan.to_json()}, indent=2) + "\n", encoding="utf-8")


class Scheduler:
    """Runs what is left of a sweep.

    Args:
        sweep: its runs and their states, from `survey`.
        view: display of what happens.
        command: gives the command of a run.
        retry: times that a failing run is tried again by this call of `run`.
        keep_replay: keep the replay of a run that is done.
        poll: seconds between two checks of the runs.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        sweep: SweepStatus,
        view: SweepView,
        command: Command = reverie_command,
        *,
        retry: int = 0,
        keep_replay: bool = True,
        poll: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sweep, self._view, self._command = sweep, view, command
        self._retry, self._keep_replay, self._poll, self._sleep = retry, keep_replay, poll, sleep
        self._began = time.time()
        self._processes: dict[RunStatus, _Process] = {}

    def run(self) -> None:
        """Run until every run is done or has failed.

        Raises:
            Interrupted: on Ctrl-C, SIGTERM or SIGHUP, after all runs have ended with a checkpoint.
        """
        try:
            with StopSignal(self._announce_stop) as stop:
                while not stop.requested and (self._processes or self._sweep.of(*OPEN)):
                    self._settle_ended()
                    self._start()
                    self._update()
                    if self._processes or self._sweep.of(*OPEN):
                        self._sleep(self._poll)
                if stop.requested:
                    self._stop()
                    raise Interrupted("", stop.signal)
        finally:
            for process in self._processes.values():
                process.kill()

    def _announce_stop(self) -> None:
        count = len(self._processes)
        self._view.log(f"Stopping {count} run(s), each with a checkpoint; press Ctrl-C again to stop at once.")

    def _stop(self) -> None:
        for process in self._processes.values():
            process.child.terminate()
        waited = 0.0
        while self._processes and waited < PATIENCE:
            self._sleep(self._poll)
            waited += self._poll
            self._settle_ended(stopping=True)
            self._update()

    def _settle_ended(self, stopping: bool = False) -> None:
        for status, process in list(self._processes.items()):
            if process.child.poll() is not None:
                del self._processes[status]
                self._settle(status, process.error(), stopping)
                process.close()

    def _settle(self, status: RunStatus, error: str, stopping: bool = False) -> None:
        """Set a run's state from its folder; `FAILED` with this error if it is not done."""
        try:
            status.read()
        except ReverieError as problem:
            status.state, error = State.WAITING, str(problem)
        if status.state is State.DONE:
            if not self._keep_replay:
                with suppress(OSError):
                    remove(status.folder.replay)
        elif stopping:
            status.state = State.WAITING
            return
        else:
            status.error = error
            with atomic_path(status.folder.path / FAILURE) as temporary:
                temporary.write_text(json.dumps({"error": error, "time": time.time()}) + "\n", encoding="utf-8")
            status.state = State.WAITING if status.attempts <= self._retry else State.FAILED
        self._view.event(status)

    def _start(self) -> None:
        """Start runs in their order while workers are free."""
        for status in self._sweep.of(*OPEN):
            if len(self._processes) >= self._sweep.workers:
                return
            lock = acquire_run(status.folder)
            if lock is None:
                status.state = State.ELSEWHERE
                continue
            self._check(status)
            if status.state is State.WAITING:
                self._launch(status, lock)
            else:
                lock.release()
                self._view.event(status)

    def _check(self, status: RunStatus) -> None:
        """Read the state of a locked run; another sweep may have run it since the last check."""
        try:
            status.read()
        except ReverieError as problem:
            status.state, status.error = State.FAILED, str(problem)
            return
        error, failed_at = status.read_failure()
        if status.state is State.CHANGED:
            status.state, status.error = State.FAILED, f"its settings have changed: {status.error}"
        elif status.state is State.WAITING and not status.attempts and failed_at > self._began:
            status.state, status.error = State.FAILED, error

    def _launch(self, status: RunStatus, lock: BaseFileLock) -> None:
        status.attempts += 1
        (status.folder.path / FAILURE).unlink(missing_ok=True)
        try:
            self._processes[status] = _Process(status.folder.path, self._command(status.run, self._sweep.folder), lock)
        except OSError as problem:
            lock.release()
            self._settle(status, f"its process could not be started: {problem.strerror or problem}")
            return
        status.start()
        self._view.event(status)

    def _update(self) -> None:
        for status in self._sweep.of(State.RUNNING, State.ELSEWHERE):
            status.read_metrics()
        self._view.update()


def acquire_run(folder: RunFolder) -> BaseFileLock | None:
    """Lock a run for a sweep, its folder is created; None if another process runs it.

    Raises:
        RunError: if nothing can be written there.
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(folder.path / LOCK)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{folder.path} cannot be written ({reason}). Check the disk and its permissions.") from error
    if lock is not None and folder.is_locked():
        lock.release()
        return None
    return lock


class _Process:
    """A running run, and its lock; OSError if it cannot be started."""

    def __init__(self, run: Path, command: list[str], lock: BaseFileLock) -> None:
        self._lock, self._log = lock, run / LOG
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with self._log.open("ab") as log:
            log.write(f"--- {now} {shlex.join(command)}\n".encode())
            log.flush()
            self._offset = log.tell()
            # A session of its own: Ctrl-C in the terminal is for the sweep, which passes it on once.
            self.child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def kill(self) -> None:
        """End it and all processes that it has started, at once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        self.close()

    def close(self) -> None:
        """Release the lock, after its end."""
        if self.child.stdin is not None:
            self.child.stdin.close()
        self._lock.release()

    def error(self) -> str:
        """Return why it failed: the last line that it wrote, or the signal that ended it."""
        code = self.child.returncode
        if code == 0:
            return "it ended before its planned steps"
        if code < 0:
            return f"ended by {signal.Signals(-code).name}"
        lines = self._log.read_bytes()[self._offset :].decode("utf-8", "replace").split("\n")
        written = [line.strip() for line in lines if line.strip()]
        return written[-1].removeprefix("error: ") if written else f"exit status {code}, without output"
