"""Small grids of fake runs, for the tests of the engine. As a program it runs one: sweeps.py FOLDER WORKERS PAUSE."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from reverie.config import to_toml
from reverie.experiments.board import Board
from reverie.experiments.cells import Cell, cells
from reverie.experiments.plan import Plan, Task
from reverie.experiments.scheduler import Scheduler
from reverie.experiments.sweep import survey
from reverie.specs import ActionSpec, ArraySpec, EnvSpec

STUB = Path(__file__).with_name("stub_run.py")
DISCRETE = EnvSpec({"image": ArraySpec((64, 64, 1), "uint8")}, ActionSpec("discrete", (2,)))
STEPS = 200


def spec_of(_: Any) -> EnvSpec:
    return DISCRETE


def plan(envs: tuple[str, ...] = ("A-v0",), variants: tuple[str, ...] = ("full",), seeds: int = 3, **more: Any) -> Plan:
    settings = {"training.steps": STEPS, "training.prefill": 100}
    tasks = tuple(Task(env, "debug") for env in envs)
    return Plan("stand-ins", tasks, variants, tuple(range(seeds)), settings, **more)


def replace_settings(old: Plan, settings: Mapping[str, Any]) -> Plan:
    return replace(old, settings={**old.settings, **settings})


def grid(**arguments: Any) -> list[Cell]:
    return cells(plan(**arguments), spec_of)


class Quiet:
    """Keep the calls that a view receives."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.lines: list[str] = []

    def event(self, entry: Any) -> None:
        self.events.append((entry.cell.name, entry.state.value))

    def log(self, message: str) -> None:
        self.lines.append(message)

    def update(self) -> None: ...


class Launch(NamedTuple):
    """A line of RUN/launches."""

    what: str
    step: int
    pid: int
    time: float


def launches(cell: Cell, folder: Path) -> list[Launch]:
    path = folder / cell.place / "launches"
    lines = [line.rsplit(" ", 3) for line in path.read_text().splitlines()] if path.exists() else []
    return [Launch(what, int(step), int(pid), float(time)) for what, step, pid, time in lines]


def starts(cell: Cell, folder: Path) -> int:
    return sum(launch.what == "start" for launch in launches(cell, folder))


def stub_command(how: Mapping[str, str], pause: float) -> Any:
    """Commands of fake runs: those given for a run by its name, and `runs` otherwise."""

    def command(cell: Cell, folder: Path) -> list[str]:
        config = folder / "configs" / f"{cell.id}.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(to_toml(cell.config))
        steps = str(cell.config.training.steps)
        words = [str(folder / cell.place), str(config), steps, how.get(cell.name, "runs"), str(pause)]
        return [sys.executable, str(STUB), *words]

    return command


def sweep(
    found: list[Cell], folder: Path, workers: int = 2, how: Mapping[str, str] = {}, pause: float = 0.0, **more: Any
) -> tuple[Board, Quiet]:
    """Run cells to the end."""
    board, view = survey(found, folder, workers), Quiet()
    Scheduler(board, folder, view, stub_command(how, pause), poll=0.02, **more).run()
    return board, view


if __name__ == "__main__":
    sweep(grid(), Path(sys.argv[1]), int(sys.argv[2]), pause=float(sys.argv[3]))
