"""Progress of training: a live view in a terminal, plain lines everywhere else."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text
from typing_extensions import override

from reverie.runs.metrics import observation_losses
from reverie.training.callbacks import Callback
from reverie.training.counters import Counters
from reverie.training.numbers import format_duration, format_number

LINE_INTERVAL, PACE_WINDOW = 10.0, 300.0
"""Seconds between two plain lines, and those that the pace is averaged over."""
UNTIMED = {"starting", "prefill", "pretraining"}
"""Phases whose pace says nothing about the remaining time."""
SCORES = ("episode/return", "eval/return")
MODEL = ("model/kl", "model/reward_loss", "model/discount_loss", "model/prior_entropy", "model/posterior_entropy")
BEHAVIOR = ("actor/loss", "actor/entropy", "critic/loss", "critic/value", "imagination/return_mean")


@dataclass(eq=False)
class Display(Callback):
    """Shows the progress of a run, within a `with` block.

    On a terminal a live view, redrawn in place; otherwise (a file, a pipe, `TERM=dumb`, `CI` set, or a terminal
    without Unicode) a plain line every ten seconds. If it is quiet, nothing is printed, and messages go to Python's
    logger `reverie`. Messages are added to a file, too, with time and agent step.
    """

    title: str
    total_steps: int
    frames_per_step: int = 1
    step: int = 0
    is_quiet: bool = False
    file: Path | None = None
    console: Console = field(default_factory=partial(Console, highlight=False))
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        is_unicode = self.console.encoding.lower().startswith("utf")
        is_redrawable = self.console.is_interactive and is_unicode and not os.environ.get("CI")
        self.is_live = is_redrawable and not self.is_quiet
        columns = TextColumn("[bold cyan]{task.description:<11}"), BarColumn(bar_width=None)
        self._bar = Progress(*columns, speed_estimate_period=PACE_WINDOW, get_time=self.clock, expand=True)
        self._bar.add_task("starting", total=self.total_steps, completed=self.step)
        (self._task,) = self._bar.tasks
        self._last_sample = self._last_line = -math.inf
        self._detail = ""
        self._metrics: dict[str, float] = {}
        self._live = Live(get_renderable=self.view, console=self.console, refresh_per_second=4)

    def __enter__(self) -> "Display":
        if self.is_live:
            self._live.start()
        else:
            self._print(self.title)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.is_live:
            self._live.stop()
        elif error is None and self._last_line > -math.inf:
            self._print(self.plain_line())

    @override
    def on_step(self, counters: Counters, transitions: object) -> None:
        self.show()

    @override
    def on_update(self, counters: Counters, metrics: object) -> None:
        self.show()

    @override
    def on_end(self) -> None:
        self.show(phase="finished")

    def show(self, metrics: Mapping[str, float] | None = None, phase: str = "") -> None:
        """Show the steps, the metrics of a new row, and a phase; by default that of the counters."""
        counters, settings, detail = self.run.counters, self.run.config.training, ""
        phase = phase or ("training" if counters.is_pretrained else "prefill")
        if counters.pretraining_updates and not counters.is_pretrained:
            total = settings.pretrain_world_model + settings.pretrain
            phase, detail = "pretraining", f"{counters.pretraining_updates:,}/{total:,} updates"
        self.update(counters.steps, phase, detail, metrics)

    def update(
        self, step: int, phase: str = "training", detail: str = "", metrics: Mapping[str, float] | None = None
    ) -> None:
        """Show agent steps, a phase with its own progress, and new metrics; the others keep their last value."""
        # The live view's thread reads these: a new dictionary, so that none changes while it is read.
        self.step, self._detail, self._metrics = step, detail, {**self._metrics, **(metrics or {})}
        now, last_phase = self.clock(), self._task.description
        if phase != last_phase and {phase, last_phase} & UNTIMED:
            self._bar.reset(self._task.id, completed=step)  # The pace of one says nothing about the other.
        if phase != last_phase or now - self._last_sample >= PACE_WINDOW / 1000:  # rich keeps 1,000 samples
            self._last_sample = now
            self._bar.update(self._task.id, completed=step, description=phase)
        if not (self.is_live or self.is_quiet) and now - self._last_line >= LINE_INTERVAL:
            self._last_line = now
            self._print(self.plain_line())

    def log(self, message: str) -> None:
        """Print a message that stays, above the live view or as a line of its own, and add it to the file."""
        self._print(message)
        if self.file is not None:
            line = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z} step {self.step:,}: {message}\n"
            with suppress(OSError), self.file.open("a", encoding="utf-8") as file:  # a full disk ends no run here
                file.write(line)

    def _print(self, message: str) -> None:
        if self.is_quiet:
            logging.getLogger("reverie").info(message)
        else:
            self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def plain_line(self) -> str:
        """Return `training  3,000/25,000 steps  12,000 frames  12%  0:03:12 left  310 f/s  episode/return 4`."""
        return "  ".join([self._task.description, *self._progress(), *self._values(1, MODEL[:1])])

    def view(self) -> Group:
        """Return the live view."""
        values = [Text(value) for value in self._values(3, MODEL + BEHAVIOR)]
        return Group(
            # A Text, since names of environments and observations may have brackets, which are rich's markup.
            Text.assemble(("reverie · ", "bold magenta"), self.title),
            self._bar,
            Text(" · ".join(self._progress())),
            Columns(values, equal=True, padding=(0, 3)),
        )

    def _progress(self) -> list[str]:
        parts = [f"{self.step:,}/{self.total_steps:,} steps"]
        if self.frames_per_step > 1:
            parts.append(f"{self.step * self.frames_per_step:,} frames")
        parts += [f"{self.step / self.total_steps:.0%}", *filter(None, [self._detail])]
        if self._task.time_remaining is not None and self._task.description not in UNTIMED:
            parts.append(f"{format_duration(self._task.time_remaining)} left")
        if self._task.speed:
            rate = self._task.speed * self.frames_per_step
            parts.append(f"{rate:,.0f} f/s" if rate >= 10 else f"{rate:.2g} f/s")
        return parts

    def _values(self, num_losses: int, others: Iterable[str]) -> list[str]:
        names = [*SCORES, *observation_losses(self._metrics)[:num_losses], *others]
        return [f"{name} {format_number(self._metrics[name])}" for name in names if name in self._metrics]
