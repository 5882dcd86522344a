"""`reverie bench WHAT`: measure updates, collection, replay, or the whole training loop."""

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from rich.table import Table

from reverie.cli.options import Base, UsageError, console, given, parse, unknown
from reverie.config import Config, nearest
from reverie.config import preset as named_preset

_MEASURED = re.compile("seconds|_per_|share|_mib")
"""What the names of measured quantities contain: their units."""
_OF_PRESET = "(default: the preset's)"


@dataclass(frozen=True)
class TrainStep:
    """Measure the time of one update of world model, actor and critic, on random data.

    Every setting may be given as for reverie train, for example --precision bf16, --device cuda or --threads 4.
    """

    preset: str = "atari"
    """Sizes and settings of the agent."""
    batch: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=_OF_PRESET)] = None
    """Sequences per update."""
    length: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=_OF_PRESET)] = None
    """Steps per sequence."""
    repeats: int = 5
    """Updates that are timed, after two that are not."""
    json: bool = False
    """Print one JSON object on the last line."""


@dataclass(frozen=True)
class Collect:
    """Measure environment steps per second, with and without the policy; beside bare ale-py for Atari games.

    Nothing is learned or stored. The environment is --env.name, or one that suits the preset. Every setting may be
    given as for reverie train, for example --env.num-envs 4 or --threads 1.
    """

    preset: str = "atari"
    """Sizes of the agent that acts, and settings of the environment."""
    repeats: int = 10
    """Rounds that are measured, after one that is not; in each, everything has its turn."""
    seconds: float = 1.0
    """Time of each turn."""
    json: bool = False
    """Print one JSON object on the last line."""


@dataclass(frozen=True)
class ReplayBench:
    """Measure how fast made-up steps are stored and sampled, and the memory that this takes.

    Every setting may be given as for reverie train, for example --replay.batch-size 50.
    """

    preset: str = "atari"
    """What steps and batches look like, and the agent whose updates are the comparison."""
    steps: int = 200_000
    """Steps in the replay; an Atari step takes 4 kB of disk."""
    batches: int = 200
    """Batches that are timed with a warm cache, after as many that are not."""
    folder: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: the system's)")] = None
    """Where the temporary folder of the replay is made."""
    json: bool = False
    """Print one JSON object on the last line."""


@dataclass(frozen=True)
class Loop:
    """Measure the whole training loop at the preset's update ratio: frames per second, and time per phase.

    A run in a temporary folder, without evaluations. The environment is --env.name, or one that suits the preset.
    Every setting may be given as for reverie train, for example --train-every 4.
    """

    preset: str = "atari"
    """Settings of the run."""
    updates: int = 20
    """Updates that are measured, after some that are not."""
    json: bool = False
    """Print one JSON object on the last line."""


class Benchmark(NamedTuple):
    """A command of `reverie bench`."""

    command: type
    measure: Callable[[Any, Config], dict[str, Any]]
    summary: str


def train_step(command: TrainStep, config: Config) -> dict[str, Any]:
    """One update."""
    from reverie.bench.train_step import measure_train_step

    return measure_train_step(config, command.preset, command.repeats)


def collect(command: Collect, config: Config) -> dict[str, Any]:
    """Environments, alone and with the agent."""
    from reverie.bench.collect import measure_collect

    return measure_collect(config, command.preset, command.repeats, command.seconds)


def replay(command: ReplayBench, config: Config) -> dict[str, Any]:
    """A replay in a temporary folder."""
    needed = config.env.num_envs * (config.replay.batch_length + 1)
    if command.steps < needed:
        length = config.replay.batch_length
        raise UsageError(f"--steps is {command.steps}, but at least {needed} are needed for sequences of {length}.")
    if command.folder is not None and not command.folder.is_dir():
        raise UsageError(f"--folder is {command.folder}, but there is no such folder.")

    from reverie.bench.replay import measure_replay

    with tempfile.TemporaryDirectory(prefix="reverie-bench-", dir=command.folder) as folder:
        return measure_replay(config, command.preset, command.steps, command.batches, Path(folder))


def loop(command: Loop, config: Config) -> dict[str, Any]:
    """A short run."""
    from reverie.bench.loop import measure_loop

    return measure_loop(config, command.preset, command.updates)


BENCHMARKS = {
    "train-step": Benchmark(TrainStep, train_step, "The time of one update."),
    "collect": Benchmark(Collect, collect, "Environment steps per second, with and without the policy."),
    "replay": Benchmark(ReplayBench, replay, "Storing and sampling steps: speed and memory."),
    "loop": Benchmark(Loop, loop, "The whole training loop: frames per second, time per phase."),
}


def run(argv: list[str]) -> None:
    """Measure and print."""
    first = argv[0] if argv else ""
    if first in ("-h", "--help"):
        _print_help()
        return
    names = ", ".join(BENCHMARKS)
    if not first or first.startswith("-"):
        raise UsageError(f"Say what to measure: reverie bench WHAT, which is one of {names}.")
    if first not in BENCHMARKS:
        unknown("There is no benchmark", first, nearest(first, BENCHMARKS, 1), f"; there are {names}.")
    benchmark = BENCHMARKS[first]
    command: Any
    command, settings = parse(f"bench {first}", benchmark.command, argv[1:], _base_for_help)
    _check(command)
    config = named_preset(command.preset).override(**settings | _overrides(command))
    measured = benchmark.measure(command, config)

    from reverie.bench.machine import machine

    row = {"benchmark": first, "preset": command.preset.replace("_", "-"), **measured, **machine(config)}
    print_result(row)
    if command.json:
        print(json.dumps(row))


def print_result(row: dict[str, Any]) -> None:
    """Print what was asked for, what was measured as a table, and on what."""
    out = console()
    asked = takewhile(lambda key: not _MEASURED.search(key), row)
    out.print(", ".join(row[k] if isinstance(row[k], str) else f"{_words(k)} {row[k]:,}" for k in asked), markup=False)
    table = Table("", "median", "quartiles")
    for column in table.columns[1:]:
        column.justify = "right"
    for key in filter(_MEASURED.search, row):
        name = key.removesuffix("_median")
        if name != key:
            low, high = row[f"{name}_quartiles"]
            table.add_row(_words(name), show(name, row[key]), f"{show(name, low)} to {show(name, high)}")
        elif not key.endswith(("_quartiles", "_all")) and row[key] is not None:
            table.add_row(_words(key), show(key, row[key]), "")
    out.print(table)
    out.print(
        f"{row['precision']} on {row['device']}; {row['cpu']} ({' '.join(row['cpu_flags'])}), cores {row['cores']}, "
        f"threads {row['threads']}; reverie {row['reverie'] or ''} ({row['commit'] or 'no commit'}), "
        f"torch {row['torch']}, Python {row['python']}",
        markup=False,
    )


def show(name: str, value: float) -> str:
    """A quantity as people read it; its name says the unit."""
    if "share" in name:
        return f"{value:.1%}"
    if name.endswith("seconds"):
        return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"
    number = f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{number} MiB" if "_mib" in name else number


def _words(key: str) -> str:
    """An entry's name without its unit."""
    return key.replace("_mib", "").removesuffix("seconds").replace("_", " ").strip() or "time"


def _check(command: Any) -> None:
    for field in ("repeats", "updates", "batches"):
        value = getattr(command, field, 1)
        if value < 1:
            raise UsageError(f"--{field} is {value}, but at least 1 is needed.")
    seconds = getattr(command, "seconds", 1.0)
    if not 0 < seconds < float("inf"):
        raise UsageError(f"--seconds is {seconds:g}, but it must be above 0.")


def _overrides(command: Any) -> dict[str, Any]:
    chosen = {
        "replay.batch_size": getattr(command, "batch", None),
        "replay.batch_length": getattr(command, "length", None),
    }
    return {path: value for path, value in chosen.items() if value is not None}


def _print_help() -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for name, benchmark in BENCHMARKS.items():
        table.add_row(f"  {name}", benchmark.summary)
    out = console()
    out.print("usage: reverie bench WHAT ...\n\nMeasure speed and memory.\n", markup=False)
    out.print(table)
    out.print("\n`reverie bench WHAT --help` says more, and lists every setting.", markup=False)


def _base_for_help(argv: list[str]) -> Base:
    name = given(argv, "--preset") or "atari"
    return Base(named_preset(name), f"preset {name}.")
