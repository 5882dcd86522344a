"""Runs the runs of a sweep as processes, some at a time, on this machine or in a Ray cluster.

Each is `reverie train ... --resume`: a sweep is resumed by typing it again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live

from reverie.errors import ReverieError, RunError
from reverie.runs.atomic_io import atomic_write, remove, to_json
from reverie.runs.layout import SWEEP
from reverie.runs.locks import acquire_lock
from reverie.runs.run_folder import RunFolder
from reverie.sweeps.plan import Plan
from reverie.sweeps.planned_runs import PlannedRun
from reverie.sweeps.processes import STOPPING, LocalProcess, Process, RunningRun, reverie_command, stop
from reverie.sweeps.status import RunStatus, State, Sweep, status_table
from reverie.training.stop_signal import Interrupted, StopSignal

LOCK = ".sweep.lock"
"""In the folder of a sweep: locked while its runs are run."""


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
    running: dict[RunStatus, RunningRun] = {}

    def say(message: str) -> None:
        console.print(message, markup=False, soft_wrap=True)

    def start(status: RunStatus) -> None:
        try:
            status.read()  # another process may run it, or have finished it
            if status.state is State.WAITING:
                running[status] = RunningRun(status, command(status.run, sweep.folder), process)
                say(f"{status.run.name} {f'continues at step {status.step:,}' if status.step else 'begins'}")
        except (OSError, ReverieError) as error:
            fail(status, getattr(error, "strerror", None) or str(error))

    def settle(status: RunStatus) -> None:
        try:
            state = running.pop(status).result()
        except ReverieError as error:
            return fail(status, str(error))
        if state is not State.DONE:
            return say(f"{status.run.name} has lost its machine at step {status.step:,} and continues on another one")
        say(f"{status.run.name} is done: last score {status.score}")
        if not keep_replay:
            with suppress(OSError):
                remove(status.folder.replay)

    def fail(status: RunStatus, why: str) -> None:
        status.state, status.error = State.FAILED, why
        say(f"{status.run.name} failed: {why}")

    with (
        Live(console=console, auto_refresh=False, transient=True) as live,
        StopSignal(lambda: say(STOPPING)) as stopping,
    ):
        try:
            while not stopping.requested and (running or sweep.unfinished):
                for status, child in list(running.items()):
                    status.read_metrics()
                    if child.has_ended():
                        settle(status)
                for status in sweep.unfinished:
                    if status not in running and len(running) < sweep.workers:
                        start(status)
                live.update(status_table(running, sweep.summary()), refresh=True)
                time.sleep(poll)
            stop(running.values())
        finally:
            for child in running.values():
                child.kill()
    console.print(status_table(sweep.runs, sweep.summary()))
    if stopping.requested:
        raise Interrupted("", stopping.signal)
