"""`reverie bench`: measure updates, collection, replay, or the whole training loop."""

import tempfile
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.cli.console import print_table, require, require_positive
from reverie.cli.parser import Base, SettingsCommand, of_preset
from reverie.config import Config


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
        config = self.configured
        measured = self.measure(config)

        from reverie.bench.measuring import machine, write_row

        row = {"benchmark": self.argv[1], "preset": self.base().preset, **measured, **machine(config)}
        print_result(row)
        if self.json:
            write_row(row)

    def base(self) -> Base:
        """Return the preset."""
        return of_preset(self.preset)


@dataclass(frozen=True, kw_only=True)
class TrainStep(Benchmark):
    """Measure the time of one update of world model, actor and critic, on random data."""

    repeats: int = 5
    """Updates that are timed, after some that are not."""

    def measure(self, config: Config) -> dict[str, Any]:
        require_positive(self, "repeats")

        from reverie.bench.train_step import measure_train_step

        return measure_train_step(config, self.preset, self.repeats)


@dataclass(frozen=True, kw_only=True)
class Collect(Benchmark):
    """Measure environment steps per second with and without the policy.

    Nothing is learned or stored. The environment is --env.name, or one that suits the preset.
    """

    repeats: int = 10
    """Rounds that are measured, after one that is not. In each, everything is timed once."""
    seconds: float = 1.0
    """Duration of each timing."""

    def measure(self, config: Config) -> dict[str, Any]:
        require_positive(self, "repeats")
        require(0 < self.seconds < float("inf"), f"--seconds is {self.seconds:g}, but it must be above 0.")

        from reverie.bench.collect import measure_collect

        return measure_collect(config, self.preset, self.repeats, self.seconds)


@dataclass(frozen=True, kw_only=True)
class ReplayBench(Benchmark):
    """Measure how fast random steps are stored and sampled, and the memory that this takes."""

    steps: int = 200_000
    """Steps in the replay; an Atari step takes 4 kB of disk."""
    batches: int = 200
    """Batches that are timed with a warm cache, after as many that are not."""
    folder: Path | None = None
    """Folder in which the temporary folder of the replay is created; by default the system's."""

    def measure(self, config: Config) -> dict[str, Any]:
        require_positive(self, "batches")
        length = config.replay.batch_length
        needed = config.env.num_envs * (length + 1)
        few = f"--steps is {self.steps}, but at least {needed} are needed for sequences of {length}."
        require(self.steps >= needed, few)
        require((self.folder or Path()).is_dir(), f"--folder is {self.folder}, but there is no such folder.")

        from reverie.bench.replay import measure_replay

        with tempfile.TemporaryDirectory(prefix="reverie-bench-", dir=self.folder) as folder:
            return measure_replay(config, self.preset, self.steps, self.batches, Path(folder))


@dataclass(frozen=True, kw_only=True)
class Loop(Benchmark):
    """Measure the whole training loop at the preset's update ratio: frames per second, and time per phase.

    A run in a temporary folder, from a replay of random steps, without pretraining and evaluations. The environment is
    --env.name, or one that suits the preset.
    """

    updates: int = 20
    """Updates that are measured, after some that are not."""

    def measure(self, config: Config) -> dict[str, Any]:
        require_positive(self, "updates")

        from reverie.bench.loop import measure_loop

        return measure_loop(config, self.preset, self.updates)


def print_result(row: dict[str, Any]) -> None:
    """Print a row as a table, with the quartiles of what was measured several times."""
    lines = []
    for key in row:
        if not key.endswith(("_quartiles", "_all")):
            name = key.removesuffix("_median")
            spread = " to ".join(map(_text, row[f"{name}_quartiles"])) if name != key else ""
            lines.append((name.replace("_", " "), _text(row[key]), spread))
    print_table(("", "median", "quartiles"), lines)


def _text(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"
    return "-" if value is None else str(value)
