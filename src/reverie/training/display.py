"""Progress of training: a live view in a terminal, plain lines everywhere else."""

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from reverie.agents import num_parameters
from reverie.dreamer import Dreamer
from reverie.runs.metrics import observation_losses
from reverie.runs.provenance import Launch, recorded_names
from reverie.training.callbacks import Callback, EvaluationResult
from reverie.training.collectors import Episode
from reverie.training.counters import Counters
from reverie.training.numbers import format_count, format_duration, format_number, format_rate, format_score, short_name

PACE_WINDOW = 300.0
"""Seconds that the pace is averaged over."""
_SAMPLES = 1000
"""Samples of the pace that rich keeps."""
UNTIMED = {"starting", "prefill", "pretraining"}
"""Phases whose pace says nothing about the remaining time."""
WORLD_MODEL = ("model/reward_loss", "model/discount_loss", "model/kl", "model/prior_entropy", "model/posterior_entropy")
BEHAVIOR = {
    "actor/loss": "actor loss",
    "critic/loss": "critic loss",
    "actor/entropy": "entropy",
    "critic/value": "value",
    "imagination/return_mean": "imagined",
}


@dataclass(eq=False)
class Display(Callback):
    """Shows the progress of a run, within a `with` block.

    On a terminal a live view, redrawn in place; otherwise (a file, a pipe, `TERM=dumb`, `CI` set, or a terminal
    without Unicode) a plain line at most every `interval` seconds. If it is quiet, nothing is printed, and messages go
    to Python's logger `reverie`.
    """

    title: str
    """Name of the environment."""
    total_steps: int
    frames_per_step: int = 1
    facts: str = ""
    """Preset, size and device."""
    step: int = 0
    elapsed: float = 0.0
    """Seconds that were spent on these steps, in a resumed run."""
    live: bool | None = None
    """Force the live view (True) or plain lines (False); None decides by the terminal."""
    is_quiet: bool = False
    interval: float = 10.0
    console: Console = field(default_factory=partial(Console, highlight=False))
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.is_live = not self.is_quiet and (wants_live(self.console) if self.live is None else self.live)
        self._start = self.clock() - self.elapsed
        self._bar = Progress(
            TextColumn("[bold cyan]{task.description:<11}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            console=self.console,
            speed_estimate_period=PACE_WINDOW,
            get_time=self.clock,
            expand=True,
        )
        self._bar.add_task("starting", total=max(self.total_steps, 1), completed=self.step)
        (self._task,) = self._bar.tasks
        self._last_sample = self._last_line = -math.inf
        self._detail = ""
        self._metrics: dict[str, float] = {}
        self._recent: deque[Episode] = deque(maxlen=10)
        self._evaluations: list[float] = []
        self._lock = threading.Lock()
        self._live = Live(get_renderable=self.panel, console=self.console, refresh_per_second=4)

    @classmethod
    def for_run(
        cls, agent: Dreamer, counters: Counters, path: Path, launch: Launch, frames_per_step: int, is_quiet: bool
    ) -> "Display":
        """Create the display of a run."""
        names = ", ".join(name for name in recorded_names(path, launch) if name)
        size = f"{format_count(num_parameters(agent))} parameters"
        return cls(
            agent.config.env.name,
            agent.config.training.steps,
            frames_per_step,
            facts=" · ".join(fact for fact in (names, size, str(agent.device)) if fact),
            step=counters.steps,
            elapsed=counters.seconds,
            is_quiet=is_quiet,
        )

    def __enter__(self) -> "Display":
        if self.is_live:
            self._live.start()
        else:
            self.log(f"{self.title}  {self.facts}".rstrip())
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.is_live:
            self._live.stop()
        elif error is None and self._last_line > -math.inf:
            self.log(self.plain_line())

    @override
    def on_step(self, counters: Counters, transitions: object) -> None:
        self.show()

    @override
    def on_update(self, counters: Counters, metrics: object) -> None:
        if counters.updates_between_steps:
            self.show()

    @override
    def on_episode(self, episode: Episode) -> None:
        with self._lock:
            self._recent.append(episode)

    @override
    def on_evaluation(self, result: EvaluationResult) -> None:
        with self._lock:
            self._evaluations.append(result.mean_return)

    @override
    def on_end(self) -> None:
        self.update(self.run.counters.steps, "finished")

    def show_evaluation(self) -> None:
        """Show that an evaluation is under way."""
        self.update(self.run.counters.steps, "evaluating")

    def show(self, metrics: Mapping[str, float] | None = None) -> None:
        """Show the steps, and the metrics of a new row."""
        counters, settings = self.run.counters, self.run.config.training
        phase, detail = "training", ""
        if not counters.is_pretrained:
            done, total = counters.pretraining_updates, settings.pretrain_world_model + settings.pretrain
            phase, detail = ("pretraining", f"{done:,}/{total:,} updates") if done else ("prefill", "")
        self.update(counters.steps, phase, detail, metrics)

    def update(
        self, step: int, phase: str = "training", detail: str = "", metrics: Mapping[str, float] | None = None
    ) -> None:
        """Show progress.

        Args:
            step: agent steps so far.
            phase: prefill, training, evaluating, or any short word.
            detail: progress of the phase, if it is not that of the steps: `3,400/9,000 updates`.
            metrics: new metrics by name; the others keep their last value.
        """
        now = self.clock()
        with self._lock:
            self.step, self._detail = step, detail
            self._metrics.update(metrics or {})
            is_new_phase = phase != self._task.description
            if is_new_phase and {phase, self._task.description} & UNTIMED:
                self._bar.reset(self._task.id, completed=step)  # The pace of one says nothing about the other.
            # More samples than rich keeps would shorten the window.
            if is_new_phase or now - self._last_sample >= PACE_WINDOW / _SAMPLES:
                self._last_sample = now
                self._bar.update(self._task.id, completed=step, description=phase)
        if not (self.is_live or self.is_quiet) and now - self._last_line >= self.interval:
            self._last_line = now
            self.log(self.plain_line())

    def log(self, message: str) -> None:
        """Print a message that stays: above the live view, or as a line of its own."""
        if self.is_quiet:
            logging.getLogger("reverie").info(message)
        else:
            self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def plain_line(self) -> str:
        """Return a line such as `3,000/25,000 steps  12,000 frames  12%  eta 3:12  return 4.0  310 f/s`."""
        percentage = min(100 * self.step / max(self.total_steps, 1), 100)
        parts = [f"{self.step:,}/{self.total_steps:,} steps", *self._frames(), f"{percentage:3.0f}%"]
        if self._task.description != "training":
            parts.append(f"{self._task.description} {self._detail}".rstrip())
        if (eta := self._eta()) is not None:
            parts.append(f"eta {format_duration(eta)}")
        parts += [f"{name} {format_score(value)}" for name, value in self._scores().items() if name != "length"]
        for name in [*observation_losses(self._metrics)[:1], "model/kl"]:
            if name in self._metrics:
                parts.append(f"{short_name(name)} {format_number(self._metrics[name])}")
        return "  ".join(parts + self._pace())

    def panel(self) -> RenderableType:
        """Return the live view."""
        with self._lock:
            eta = self._eta()
            times = [f"{format_duration(self.clock() - self._start)} elapsed"]
            times += [f"{format_duration(eta)} left"] if eta is not None else []
            steps = [f"{self.step:,} of {self.total_steps:,} steps", *self._frames(), self._detail]
            losses = observation_losses(self._metrics)[:3]
            sections = {
                "scores": {name: format_score(value) for name, value in self._scores().items()},
                "world model": self._rows({name: short_name(name) for name in (*losses, *WORLD_MODEL)}),
                "behavior": self._rows(BEHAVIOR),
            }
            body = Table.grid(expand=True)
            body.add_row(self._bar)
            body.add_row(" · ".join(part for part in steps if part))
            body.add_row(" · ".join([*self._pace(), *times]))
            body.add_row(Columns([_section(name, rows) for name, rows in sections.items() if rows], padding=(1, 4)))
        # Texts, since names of environments, presets and observations may have brackets, which are rich's markup.
        title, facts = Text.assemble(("reverie", "bold magenta"), " · ", (self.title, "bold")), Text(self.facts, "dim")
        return Panel(body, title=title, subtitle=facts, title_align="left", subtitle_align="right", width=80)

    def _frames(self) -> list[str]:
        return [f"{self.step * self.frames_per_step:,} frames"] if self.frames_per_step > 1 else []

    def _eta(self) -> float | None:
        return None if self._task.description in UNTIMED else self._task.time_remaining

    def _pace(self) -> list[str]:
        speed = self._task.speed
        pace = [f"{format_rate(speed * self.frames_per_step)} f/s"] if speed else []
        updates = self._metrics.get("perf/updates_per_second")
        return pace if updates is None else [*pace, f"{format_rate(updates)} updates/s"]

    def _scores(self) -> dict[str, float]:
        scores, count = {}, len(self._recent)
        if count:
            scores["return"] = sum(episode.return_ for episode in self._recent) / count
            scores["length"] = sum(episode.length for episode in self._recent) / count
        if self._evaluations:
            scores |= {"eval": self._evaluations[-1], "best": max(self._evaluations)}
        return scores

    def _rows(self, labels: Mapping[str, str]) -> dict[str, str]:
        return {label: format_number(self._metrics[name]) for name, label in labels.items() if name in self._metrics}


def _section(name: str, rows: Mapping[str, str]) -> Table:
    table = Table(name, "", box=None, header_style="bold cyan", padding=(0, 1, 0, 0))
    table.columns[1].justify = "right"
    for label, value in rows.items():
        table.add_row(Text(label), value)
    return table


def wants_live(console: Console) -> bool:
    """Return whether a console can redraw what it shows: a terminal with Unicode, outside of CI."""
    is_unicode = console.encoding.lower().startswith("utf")
    return console.is_terminal and not console.is_dumb_terminal and is_unicode and not os.environ.get("CI")
