"""The face of the program: a live view of training in a terminal, plain lines everywhere else.

It receives plain numbers and knows nothing of trainer or agent.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live

from reverie.runs.metrics import observation_losses
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
    """Shows how training goes; use it as a context manager.

    On a terminal a live view, redrawn in place; otherwise (a file, a pipe, `TERM=dumb`, `CI` set, or a terminal
    without Unicode) a plain line at most every `interval` seconds. Results are printed to standard output.

    Args:
        env: name of the environment.
        total_frames: environment frames of the whole run.
        preset: name of the preset, if any.
        parameters: of the agent, if known.
        device: what it runs on.
        frames: done before, in a run that is resumed.
        elapsed: seconds that were spent on them.
        live: force the live view (True) or plain lines (False); None decides by the terminal.
        interval: seconds between plain lines.
        console: where to print.
        clock: seconds, rising.
    """

    def __init__(
        self,
        env: str,
        total_frames: int,
        *,
        preset: str = "",
        parameters: int | None = None,
        device: str = "",
        frames: int = 0,
        elapsed: float = 0.0,
        live: bool | None = None,
        interval: float = 10.0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.env, self.preset, self.parameters, self.device = env, preset, parameters, device
        self.console = console or Console(highlight=False)
        self.progress = Progress(total_frames, frames, clock, elapsed)
        self.is_live = wants_live(self.console) if live is None else live
        self._interval = interval
        self._clock = clock
        self._last_line = -math.inf
        self._last_phase = ""
        self._lock = threading.Lock()
        self._live: Live | None = None

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
        frames: int,
        phase: str = "training",
        metrics: Mapping[str, float] | None = None,
        detail: str = "",
    ) -> None:
        """Say where the run stands.

        Args:
            step: agent steps so far.
            frames: environment frames so far.
            phase: prefill, training, evaluating, or any short word.
            metrics: those of `training.metrics`, where there are new ones; the others keep their last value.
            detail: how far the phase is, if frames do not say it: `3,400/9,000 updates`.
        """
        with self._lock:
            self.progress.update(step, frames, phase, metrics, detail)
        if not self.is_live:
            now = self._clock()
            if now - self._last_line >= self._interval:
                self._last_line = now
                self._print_line()
            self._last_phase = phase

    def episode(self, return_: float, length: int) -> None:
        """A training episode has ended.

        Args:
            return_: sum of its raw rewards.
            length: its agent steps.
        """
        with self._lock:
            self.progress.episodes += 1
            self.progress.recent.append((return_, length))
            self.progress.returns.add(return_)

    def evaluation(self, mean_return: float) -> None:
        """An evaluation has ended with this mean return."""
        with self._lock:
            self.progress.evaluations.append(mean_return)

    def log(self, message: str) -> None:
        """Print a message that stays: above the live view, or as a line of its own."""
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
    """Whether a console can redraw in place what it shows: a terminal with Unicode, outside of CI."""
    unicode = console.encoding.lower().startswith("utf")
    return console.is_terminal and not console.is_dumb_terminal and unicode and not os.environ.get("CI")


def plain_line(progress: Progress) -> str:
    """One line of plain characters: `12,000/100,000 frames  12%  eta 3:12  return 4.0  image 3,771  310 f/s`."""
    parts = [f"{progress.frames:,}/{progress.total_frames:,} frames", f"{progress.fraction:4.0%}"]
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
