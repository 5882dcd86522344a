"""Progress of training: a live view in a terminal, plain lines everywhere else."""

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from reverie.agents import parameter_counts
from reverie.dreamer import Dreamer
from reverie.runs.metrics import observation_losses
from reverie.runs.provenance import Launch, recorded_names
from reverie.training.callbacks import Callback, EvaluationResult, Run
from reverie.training.collectors import Episode
from reverie.training.counters import Counters
from reverie.training.numbers import format_count, format_duration, format_number, format_rate, format_score, short_name

PACE_WINDOW = 300.0
"""Seconds that the pace is averaged over."""
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


class Display:
    """Shows the progress of a run, within a `with` block.

    On a terminal a live view, redrawn in place; otherwise (a file, a pipe, `TERM=dumb`, `CI` set, or a terminal
    without Unicode) a plain line at most every `interval` seconds. If it is quiet, nothing is printed, and messages go
    to Python's logger `reverie`.

    Args:
        title: name of the environment.
        total_steps: agent steps of the whole run.
        frames_per_step: environment frames of an agent step.
        facts: preset, size and device.
        step: agent steps before, in a resumed run.
        elapsed: seconds that were spent on them.
        live: force the live view (True) or plain lines (False); None decides by the terminal.
        is_quiet: print nothing.
        interval: seconds between plain lines.
        console: where to print.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        title: str,
        total_steps: int,
        frames_per_step: int = 1,
        *,
        facts: str = "",
        step: int = 0,
        elapsed: float = 0.0,
        live: bool | None = None,
        is_quiet: bool = False,
        interval: float = 10.0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.facts, self.frames_per_step = title, facts, frames_per_step
        self.console = console or Console(highlight=False)
        self.is_quiet = is_quiet
        self.is_live = not is_quiet and (wants_live(self.console) if live is None else live)
        self._interval, self._clock, self._start = interval, clock, clock() - elapsed
        self._bar = Progress(
            TextColumn("[bold cyan]{task.description:<11}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            console=self.console,
            speed_estimate_period=PACE_WINDOW,
            get_time=clock,
            expand=True,
        )
        self._bar.add_task("starting", total=max(total_steps, 1), completed=step)
        (self._task,) = self._bar.tasks
        self._detail = ""
        self._metrics: dict[str, float] = {}
        self._recent: deque[tuple[float, int]] = deque(maxlen=10)
        self._num_episodes = 0
        self._evaluations: list[float] = []
        self._last_line = -math.inf
        self._lock = threading.Lock()
        self._live: Live | None = None

    @classmethod
    def for_run(
        cls, agent: Dreamer, counters: Counters, path: Path, launch: Launch, frames_per_step: int, is_quiet: bool
    ) -> "Display":
        """Create the display of a run."""
        size = f"{format_count(parameter_counts(agent)['trained'])} parameters"
        names = [name for name in recorded_names(path, launch) if name]
        return cls(
            agent.config.env.name,
            agent.config.training.steps,
            frames_per_step,
            facts=" · ".join([", ".join(names), size, str(agent.device)] if names else [size, str(agent.device)]),
            step=counters.steps,
            elapsed=counters.seconds,
            is_quiet=is_quiet,
        )

    def __enter__(self) -> "Display":
        if self.is_live:
            self._live = Live(get_renderable=self.panel, console=self.console, refresh_per_second=4)
            self._live.start()
        else:
            self.log(f"{self.title}  {self.facts}".rstrip())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif error is None and self._last_line > -math.inf:
            self.log(self.plain_line())

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
        with self._lock:
            if phase != self._task.description and {phase, self._task.description} & UNTIMED:
                self._bar.reset(self._task.id, completed=step)  # The pace of one says nothing about the other.
            self._bar.update(self._task.id, completed=step, description=phase)
            self._detail = detail
            self._metrics.update(metrics or {})
        now = self._clock()
        if not (self.is_live or self.is_quiet) and now - self._last_line >= self._interval:
            self._last_line = now
            self.log(self.plain_line())

    def episode(self, return_: float, length: int) -> None:
        """Show return and length of a training episode."""
        with self._lock:
            self._recent.append((return_, length))
            self._num_episodes += 1

    def evaluation(self, mean_return: float) -> None:
        """Show the mean return of an evaluation."""
        with self._lock:
            self._evaluations.append(mean_return)

    def log(self, message: str) -> None:
        """Print a message that stays: above the live view, or as a line of its own."""
        if self.is_quiet:
            logging.getLogger("reverie").info(message)
        else:
            self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def plain_line(self) -> str:
        """Return a line such as `3,000/25,000 steps  12,000 frames  12%  eta 3:12  return 4.0  310 f/s`."""
        parts = [f"{self._step:,}/{self._task.total:,.0f} steps", *self._frames(), f"{self._task.percentage:3.0f}%"]
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
            times = [f"{format_duration(self._clock() - self._start)} elapsed"]
            times += [f"{format_duration(eta)} left"] if eta is not None else []
            steps = [f"{self._step:,} of {self._task.total:,.0f} steps", *self._frames(), self._detail]
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
        title, facts = f"[bold magenta]reverie[/] · [bold]{self.title}[/]", f"[dim]{self.facts}[/]"
        return Panel(body, title=title, subtitle=facts, title_align="left", subtitle_align="right", width=80)

    @property
    def _step(self) -> int:
        return int(self._task.completed)

    def _frames(self) -> list[str]:
        return [f"{self._step * self.frames_per_step:,} frames"] if self.frames_per_step > 1 else []

    def _eta(self) -> float | None:
        return None if self._task.description in UNTIMED else self._task.time_remaining

    def _pace(self) -> list[str]:
        speed = self._task.speed
        pace = [f"{format_rate(speed * self.frames_per_step)} f/s"] if speed else []
        updates = self._metrics.get("perf/updates_per_second")
        return pace if updates is None else [*pace, f"{format_rate(updates)} updates/s"]

    def _scores(self) -> dict[str, float]:
        scores = {}
        if self._recent:
            scores["return"] = sum(value for value, _ in self._recent) / len(self._recent)
            scores["length"] = sum(length for _, length in self._recent) / len(self._recent)
        if self._evaluations:
            scores |= {"eval": self._evaluations[-1], "best": max(self._evaluations)}
        return scores

    def _rows(self, labels: Mapping[str, str]) -> dict[str, str]:
        return {label: format_number(self._metrics[name]) for name, label in labels.items() if name in self._metrics}


def _section(name: str, rows: Mapping[str, str]) -> Table:
    table = Table(name, "", box=None, header_style="bold cyan", padding=(0, 1, 0, 0))
    table.columns[1].justify = "right"
    for label, value in rows.items():
        table.add_row(label, value)
    return table


def wants_live(console: Console) -> bool:
    """Return whether a console can redraw what it shows: a terminal with Unicode, outside of CI."""
    is_unicode = console.encoding.lower().startswith("utf")
    return console.is_terminal and not console.is_dumb_terminal and is_unicode and not os.environ.get("CI")


class ShowProgress(Callback):
    """Keeps a display up to date.

    Args:
        display: the display.
    """

    def __init__(self, display: Display) -> None:
        self._display = display

    def on_start(self, run: Run) -> None:
        """Keep the run."""
        self._run = run

    def on_step(self, counters: Counters, transitions: object) -> None:
        """Show the steps."""
        self.show()

    def on_update(self, counters: Counters, metrics: object) -> None:
        """Show updates while steps do not advance."""
        if counters.updates_between_steps:
            self.show()

    def on_episode(self, episode: Episode) -> None:
        """Show return and length."""
        self._display.episode(episode.return_, episode.length)

    def on_evaluation(self, result: EvaluationResult) -> None:
        """Show the mean return."""
        self._display.evaluation(result.mean_return)

    def on_end(self) -> None:
        """Show the end."""
        self._display.update(self._run.counters.steps, "finished")

    def show_evaluation(self) -> None:
        """Show that an evaluation is under way."""
        self._display.update(self._run.counters.steps, "evaluating")

    def show(self, metrics: Mapping[str, float] | None = None) -> None:
        """Show the steps, and the metrics of a new row."""
        counters, settings = self._run.counters, self._run.config.training
        phase, detail = "training", ""
        if not counters.is_pretrained:
            done, total = counters.pretraining_updates, settings.pretrain_world_model + settings.pretrain
            phase, detail = ("pretraining", f"{done:,}/{total:,} updates") if done else ("prefill", "")
        self._display.update(counters.steps, phase, detail, metrics)
