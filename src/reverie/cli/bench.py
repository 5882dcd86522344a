"""`reverie bench`: measure updates, collection, replay, or the whole training loop."""

import json
import re
import tempfile
from abc import abstractmethod
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from rich.table import Table

from reverie.cli.console import UsageError, console, require_positive
from reverie.cli.parser import Base, SettingsCommand
from reverie.config import Config
from reverie.config import preset as named_preset

_MEASURED = re.compile("seconds|_per_|share|_mib")
"""Units, in the names of measured quantities."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(SettingsCommand):
    """A measurement with the settings of a preset."""

    preset: str = "atari"
    """Settings to start from; see reverie list presets."""
    json: bool = False
    """Print one JSON object on the last line."""

    @abstractmethod
    def measure(self, config: Config) -> dict[str, Any]:
        """Return what was asked for, then quantities with their units in their names."""

    def __call__(self) -> None:
        config = self.base().config.override(**self.settings)
        measured = self.measure(config)

        from reverie.bench.machine import machine

        row = {"benchmark": self.argv[1], "preset": self.preset.replace("_", "-"), **measured, **machine(config)}
        print_result(row)
        if self.json:
            print(json.dumps(row))

    def base(self) -> Base:
        """Return the preset."""
        return Base(named_preset(self.preset), f"preset {self.preset}.")


@dataclass(frozen=True, kw_only=True)
class TrainStep(Benchmark):
    """Measure the time of one update of world model, actor and critic, on random data.

    Every setting is an option, for example --precision bf16, --threads 4 or --replay.batch-size 32.
    """

    repeats: int = 5
    """Updates that are timed, after two that are not."""

    def measure(self, config: Config) -> dict[str, Any]:
        require_positive(self, "repeats")

        from reverie.bench.train_step import measure_train_step

        return measure_train_step(config, self.preset, self.repeats)


@dataclass(frozen=True, kw_only=True)
class Collect(Benchmark):
    """Measure environment steps per second with and without the policy, compared with bare ale-py for Atari games.

    Nothing is learned or stored. The environment is --env.name, or one that suits the preset. Every setting is an
    option, for example --env.num-envs 4 or --threads 1.
    """

    repeats: int = 10
    """Rounds that are measured, after one that is not. In each, everything is timed once."""
    seconds: float = 1.0
    """Duration of each timing."""

    def measure(self, config: Config) -> dict[str, Any]:
        require_positive(self, "repeats")
        if not 0 < self.seconds < float("inf"):
            raise UsageError(f"--seconds is {self.seconds:g}, but it must be above 0.")

        from reverie.bench.collect import measure_collect

        return measure_collect(config, self.preset, self.repeats, self.seconds)


@dataclass(frozen=True, kw_only=True)
class ReplayBench(Benchmark):
    """Measure how fast random steps are stored and sampled, and the memory that this takes.

    Every setting is an option, for example --replay.batch-size 50.
    """

    steps: int = 200_000
    """Steps in the replay; an Atari step takes 4 kB of disk."""
    batches: int = 200
    """Batches that are timed with a warm cache, after as many that are not."""
    folder: Path | None = None
    """Folder in which the temporary folder of the replay is created; by default the system's."""

    def measure(self, config: Config) -> dict[str, Any]:
        require_positive(self, "batches")
        needed = config.env.num_envs * (config.replay.batch_length + 1)
        if self.steps < needed:
            length = config.replay.batch_length
            raise UsageError(f"--steps is {self.steps}, but at least {needed} are needed for sequences of {length}.")
        if self.folder is not None and not self.folder.is_dir():
            raise UsageError(f"--folder is {self.folder}, but there is no such folder.")

        from reverie.bench.replay import measure_replay

        with tempfile.TemporaryDirectory(prefix="reverie-bench-", dir=self.folder) as folder:
            return measure_replay(config, self.preset, self.steps, self.batches, Path(folder))


@dataclass(frozen=True, kw_only=True)
class Loop(Benchmark):
    """Measure the whole training loop at the preset's update ratio: frames per second, and time per phase.

    A run in a temporary folder, from a replay of random steps, without pretraining and evaluations. The environment is
    --env.name, or one that suits the preset. Every setting is an option, for example --train-every 4.
    """

    updates: int = 20
    """Updates that are measured, after some that are not."""

    def measure(self, config: Config) -> dict[str, Any]:
        require_positive(self, "updates")

        from reverie.bench.loop import measure_loop

        return measure_loop(config, self.preset, self.updates)


BENCHMARKS = {"train-step": TrainStep, "collect": Collect, "replay": ReplayBench, "loop": Loop}


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
            table.add_row(_words(name), quantity(name, row[key]), f"{quantity(name, low)} to {quantity(name, high)}")
        elif not key.endswith(("_quartiles", "_all")) and row[key] is not None:
            table.add_row(_words(key), quantity(key, row[key]), "")
    out.print(table)
    out.print(
        f"{row['precision']} on {row['device']}; {row['cpu']} ({' '.join(row['cpu_flags'])}), cores {row['cores']}, "
        f"threads {row['threads']}; reverie {row['reverie'] or ''} ({row['commit'] or 'no commit'}), "
        f"torch {row['torch']}, Python {row['python']}",
        markup=False,
    )


def quantity(name: str, value: float) -> str:
    """Return a quantity with its unit, which its name contains."""
    if "share" in name:
        return f"{value:.1%}"
    if name.endswith("seconds"):
        return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"
    number = f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{number} MiB" if "_mib" in name else number


def _words(key: str) -> str:
    return key.replace("_mib", "").removesuffix("seconds").replace("_", " ").strip() or "time"
