"""Small grids of fake runs, for the tests of sweeps. As a program it runs one: sweeps.py FOLDER WORKERS PAUSE."""

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from reverie.config import to_toml
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from reverie.sweeps.executor import execute, survey, sweep_folder
from reverie.sweeps.plan import Plan, Task
from reverie.sweeps.planned_runs import PlannedRun, planned_runs
from reverie.sweeps.status import RunStatus, Sweep

STUB = Path(__file__).with_name("stub_run.py")
DISCRETE = EnvSpec({"image": ArraySpec((64, 64, 1), "uint8")}, ActionSpec("discrete", (2,)))
STEPS = 200
PATIENCE = 30.0
"""Seconds after which a test gives up waiting."""


def spec_of(_: Any) -> EnvSpec:
    return DISCRETE


def plan(envs: tuple[str, ...] = ("A-v0",), variants: tuple[str, ...] = ("full",), seeds: int = 3, **more: Any) -> Plan:
    settings = {"training.steps": STEPS, "training.prefill": 100}
    tasks = tuple(Task(env, "debug") for env in envs)
    return Plan("fake", tasks, variants, tuple(range(seeds)), settings, **more)


def replace_settings(old: Plan, settings: Mapping[str, Any]) -> Plan:
    return replace(old, settings={**old.settings, **settings})


def grid(**arguments: Any) -> list[PlannedRun]:
    return planned_runs(plan(**arguments), spec_of)


class Launch(NamedTuple):
    """A line of RUN/launches."""

    what: str
    step: int
    pid: int
    time: float


def launches(run: PlannedRun, folder: Path) -> list[Launch]:
    path = folder / run.path / "launches"
    lines = [line.rsplit(" ", 3) for line in path.read_text().splitlines()] if path.exists() else []
    return [Launch(what, int(step), int(pid), float(time)) for what, step, pid, time in lines]


def starts(run: PlannedRun, folder: Path) -> int:
    return sum(launch.what == "start" for launch in launches(run, folder))


def stub_command(how: Mapping[str, str], pause: float) -> Any:
    """Commands of fake runs: those given for a run by its name, and `runs` otherwise."""

    def command(run: PlannedRun, folder: Path) -> list[str]:
        config = folder / "configs" / f"{run.id}.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(to_toml(run.config))
        steps = str(run.config.training.steps)
        words = [str(folder / run.path), str(config), steps, how.get(run.name, "runs"), str(pause)]
        return [sys.executable, str(STUB), *words]

    return command


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that has ended and was not waited for is still there.
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def send_when(condition: Callable[[], object], number: int) -> None:
    """Send this process a signal once the condition holds."""

    def watch() -> None:
        wait_for(condition)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()


def survey_of(runs: list[PlannedRun], folder: Path, workers: int = 1) -> Sweep:
    return survey(plan(workers=workers), runs, folder)


def status_of(run: PlannedRun, folder: Path) -> RunStatus:
    status = RunStatus(run, folder)
    status.read()
    return status


def run_sweep(
    runs: list[PlannedRun],
    folder: Path,
    workers: int = 2,
    how: Mapping[str, str] = {},
    pause: float = 0.0,
    **more: Any,
) -> tuple[Sweep, str]:
    """Run a sweep to the end; return its status and what was printed."""
    sweep, console = survey_of(runs, folder, workers), Console(file=io.StringIO(), width=160)
    execute(sweep, console, command=stub_command(how, pause), poll=0.02, **more)
    return sweep, console.file.getvalue()  # type: ignore[attr-defined]


if __name__ == "__main__":
    with sweep_folder(plan(), grid(), Path(sys.argv[1])):
        run_sweep(grid(), Path(sys.argv[1]), int(sys.argv[2]), pause=float(sys.argv[3]))
