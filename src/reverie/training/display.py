"""Progress of training: a live view in a terminal, plain lines everywhere else."""

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live

from reverie.agents import parameter_counts
from reverie.dreamer import Dreamer
from reverie.runs.metrics import observation_losses
from reverie.runs.provenance import Launch, recorded_names
from reverie.training.callbacks import Callback, EvaluationResult, Run
from reverie.training.collectors import Episode
from reverie.training.counters import Counters
from reverie.training.live_view import render
from reverie.training.progress import (
    Progress,
    format_count,
    format_duration,
    format_number,
    format_rate,
    format_score,
    short_name,
)


class Display:
    """Shows the progress of a run, within a `with` block.

    On a terminal a live view, redrawn in place; otherwise (a file, a pipe, `TERM=dumb`, `CI` set, or a terminal
    without Unicode) a plain line at most every `interval` seconds. If it is quiet, nothing is printed, and messages go
    to Python's logger `reverie`.

    Args:
        env: name of the environment.
        total_steps: agent steps of the whole run.
        frames_per_step: environment frames of an agent step.
        preset: name of the preset, if any.
        parameters: of the agent, if known.
        device: what it runs on.
        step: agent steps before, in a resumed run.
        elapsed: seconds that were spent on them.
        live: force the live view (True) or plain lines (False); None decides by the terminal.
        is_quiet: print nothing.
        interval: seconds between plain lines.
        console: where to print.
        clock: seconds, rising.
    """

    def __init__(
        self,
        env: str,
        total_steps: int,
        frames_per_step: int = 1,
        *,
        preset: str = "",
        parameters: int | None = None,
        device: str = "",
        step: int = 0,
        elapsed: float = 0.0,
        live: bool | None = None,
        is_quiet: bool = False,
        interval: float = 10.0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.env, self.preset, self.parameters, self.device = env, preset, parameters, device
        self.console = console or Console(highlight=False)
        self.progress = Progress(total_steps, frames_per_step, step, clock, elapsed)
        self.is_quiet = is_quiet
        self.is_live = not is_quiet and (wants_live(self.console) if live is None else live)
        self._interval = interval
        self._clock = clock
        self._last_line = -math.inf
        self._last_phase = ""
        self._lock = threading.Lock()
        self._live: Live | None = None

    @classmethod
    def for_run(
        cls, agent: Dreamer, counters: Counters, path: Path, launch: Launch, frames_per_step: int, is_quiet: bool
    ) -> "Display":
        """Create the display of a run."""
        return cls(
            agent.config.env.name,
            agent.config.training.steps,
            frames_per_step,
            preset=", ".join(name for name in recorded_names(path, launch) if name),
            parameters=parameter_counts(agent)["trained"],
            device=str(agent.device),
            step=counters.steps,
            elapsed=counters.seconds,
            is_quiet=is_quiet,
        )

    def __enter__(self) -> "Display":
        if self.is_live:
            self._live = Live(self, console=self.console, refresh_per_second=4, vertical_overflow="crop")
            self._live.start()
        else:
            self.log("  ".join(part for part in (self.env, *self._facts()) if part))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif error is None and self._last_phase:
            self._print_line()

    def update(
        self,
        *,
        step: int,
        phase: str = "training",
        metrics: Mapping[str, float] | None = None,
        detail: str = "",
    ) -> None:
        """Show progress.

        Args:
            step: agent steps so far.
            phase: prefill, training, evaluating, or any short word.
            metrics: new metrics by name; the others keep their last value.
            detail: progress of the phase, if it is not that of the steps: `3,400/9,000 updates`.
        """
        with self._lock:
            self.progress.update(step, phase, metrics, detail)
        if not (self.is_live or self.is_quiet):
            now = self._clock()
            if now - self._last_line >= self._interval:
                self._last_line = now
                self._print_line()
            self._last_phase = phase

    def episode(self, return_: float, length: int) -> None:
        """Show a training episode.

        Args:
            return_: sum of its raw rewards.
            length: agent steps.
        """
        with self._lock:
            self.progress.episodes += 1
            self.progress.recent.append((return_, length))
            self.progress.returns.add(return_)

    def evaluation(self, mean_return: float) -> None:
        """Show the mean return of an evaluation."""
        with self._lock:
            self.progress.evaluations.append(mean_return)

    def log(self, message: str) -> None:
        """Print a message that stays: above the live view, or as a line of its own."""
        if self.is_quiet:
            logging.getLogger("reverie").info(message)
            return
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _facts(self) -> list[str]:
        size = f"{format_count(self.parameters)} parameters" if self.parameters is not None else ""
        return [part for part in (self.preset, size, self.device) if part]

    def _print_line(self) -> None:
        self.log(plain_line(self.progress))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        with self._lock:
            yield render(self.progress, self.env, self._facts(), options)


def wants_live(console: Console) -> bool:
    """Return whether a console can redraw what it shows: a terminal with Unicode, outside of CI."""
    unicode = console.encoding.lower().startswith("utf")
    return console.is_terminal and not console.is_dumb_terminal and unicode and not os.environ.get("CI")


def plain_line(progress: Progress) -> str:
    """Return a line such as `3,000/25,000 steps  12,000 frames  12%  eta 3:12  return 4.0  image 3,771  310 f/s`."""
    parts = [f"{progress.step:,}/{progress.total_steps:,} steps"]
    if progress.frames_per_step > 1:
        parts.append(f"{progress.frames:,} frames")
    parts.append(f"{progress.fraction:4.0%}")
    if progress.phase != "training":
        parts.append(f"{progress.phase} {progress.detail}".rstrip())
    if progress.eta is not None:
        parts.append(f"eta {format_duration(progress.eta)}")
    if progress.mean_return is not None:
        parts.append(f"return {format_score(progress.mean_return)}")
    if progress.evaluations:
        parts.append(f"eval {format_score(progress.evaluations[-1])}")
    for name in [*observation_losses(progress.metrics)[:1], "model/kl"]:
        if name in progress.metrics:
            parts.append(f"{short_name(name)} {format_number(progress.metrics[name])}")
    if progress.frames_per_second is not None:
        parts.append(f"{format_rate(progress.frames_per_second)} f/s")
    return "  ".join(parts)


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
        self._update()

    def on_update(self, counters: Counters, metrics: object) -> None:
        """Show updates while steps do not advance."""
        if counters.updates_between_steps:
            self._update()

    def on_episode(self, episode: Episode) -> None:
        """Show return and length."""
        self._display.episode(episode.return_, episode.length)

    def on_evaluation(self, result: EvaluationResult) -> None:
        """Show the mean return."""
        self._display.evaluation(result.mean_return)

    def on_end(self) -> None:
        """Show the end."""
        self._display.update(step=self._run.counters.steps, phase="finished")

    def evaluation_step(self) -> None:
        """Show that an evaluation is under way."""
        self._display.update(step=self._run.counters.steps, phase="evaluating")

    def row(self, scalars: Mapping[str, float]) -> None:
        """Show a row of metrics."""
        self._update(scalars)

    def _update(self, scalars: Mapping[str, float] | None = None) -> None:
        counters, settings = self._run.counters, self._run.config.training
        phase, detail = "training", ""
        if not counters.is_pretrained:
            done, total = counters.pretraining_updates, settings.pretrain_world_model + settings.pretrain
            phase, detail = ("pretraining", f"{done:,}/{total:,} updates") if done else ("prefill", "")
        self._display.update(step=counters.steps, phase=phase, metrics=scalars, detail=detail)
