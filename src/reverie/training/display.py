"""The face of the program: a live view of training in a terminal, plain lines everywhere else.

It receives plain numbers and knows nothing of trainer or agent.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reverie.training.metrics import observation_losses
from reverie.training.progress import (
    Progress,
    format_count,
    format_duration,
    format_number,
    format_rate,
    format_score,
    sparkline,
)

MAX_WIDTH = 80

OBSERVATION_ROWS = 3
"""Reconstruction losses shown at most, of environments with many observation keys."""
MODEL_ROWS = {
    "model/reward_loss": "reward",
    "model/discount_loss": "discount",
    "model/kl": "KL",
    "model/prior_entropy": "prior entropy",
    "model/posterior_entropy": "post. entropy",
}
BEHAVIOR_ROWS = {
    "behavior/actor_loss": "actor",
    "behavior/critic_loss": "critic",
    "behavior/actor_entropy": "entropy",
    "behavior/value": "value",
    "behavior/return_mean": "imagined return",
}

# The terminal's own palette, without its white, black and yellow: readable on light and on dark grounds.
ACCENT, SCORE, DREAM, ALARM = "cyan", "green", "magenta", "bold red"
PHASE_STYLES = {"prefill": "blue", "pretraining": "blue", "training": ACCENT, "evaluating": DREAM, "finished": SCORE}


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
        self.is_live = _wants_live(self.console) if live is None else live
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
        self, *, step: int, frames: int, phase: str = "training", metrics: Mapping[str, float] | None = None
    ) -> None:
        """Say where the run stands.

        Args:
            step: agent steps so far.
            frames: environment frames so far.
            phase: prefill, training, evaluating, or any short word.
            metrics: those of `training.metrics`, where there are new ones; the others keep their last value.
        """
        with self._lock:
            self.progress.update(step, frames, phase, metrics)
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

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            yield render(self.progress, self.env, self._facts(), options)


def _wants_live(console: Console) -> bool:
    unicode = console.encoding.lower().startswith("utf")
    return console.is_terminal and not console.is_dumb_terminal and unicode and not os.environ.get("CI")


def plain_line(progress: Progress) -> str:
    """One line of plain characters: `12,000/100,000 frames  12%  eta 3:12  return 4.0  image 3,771  310 f/s`."""
    parts = [f"{progress.frames:,}/{progress.total_frames:,} frames", f"{progress.fraction:4.0%}"]
    if progress.phase != "training":
        parts.append(progress.phase)
    if progress.eta is not None:
        parts.append(f"eta {format_duration(progress.eta)}")
    if progress.mean_return is not None:
        parts.append(f"return {format_score(progress.mean_return)}")
    if progress.evaluations:
        parts.append(f"eval {format_score(progress.evaluations[-1])}")
    for name in [*observation_losses(progress.metrics)[:1], "model/kl"]:
        if name in progress.metrics:
            parts.append(f"{_label(name)} {format_number(progress.metrics[name])}")
    if progress.frames_per_second is not None:
        parts.append(f"{format_rate(progress.frames_per_second)} f/s")
    return "  ".join(parts)


def _label(name: str) -> str:
    return name.split("/", 1)[-1].removesuffix("_loss").replace("_", " ")


def render(progress: Progress, env: str, facts: list[str], options: ConsoleOptions) -> RenderableType:
    """The live view, made to fit: fewer columns on a narrow terminal, fewer rows on a low one."""
    width = min(options.max_width, MAX_WIDTH)
    inner = max(width - 4, 1)
    parts: list[RenderableType] = [_bar(progress, inner), _pace(progress, inner)]
    sections = _sections(progress, inner, options.size.height - 11)
    if sections is not None:
        parts += ["", sections]
    if options.size.height >= 22 or sections is None:
        sparks = _sparks(progress, inner)
        if sparks is not None:
            parts += ["", sparks]
    subtitle = ""
    for fact in facts:
        longer = f"{subtitle} · {fact}" if subtitle else fact
        subtitle = longer if len(longer) <= inner - 2 else subtitle
    return Panel(
        Group(*parts),
        # The border's style would dim them too.
        title=Text.assemble((" reverie ", f"not dim bold {DREAM}"), "· ", (env + " ", "not dim bold")),
        title_align="left",
        subtitle=Text(f" {subtitle} ", style="dim") if subtitle else None,
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="dim",
        padding=(0, 1),
        width=width,
    )


def _bar(progress: Progress, width: int) -> RenderableType:
    style = PHASE_STYLES.get(progress.phase, ACCENT)
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(progress.total_frames, progress.frames, style="dim", complete_style=style)
    bar.finished_style = SCORE
    # As wide as the longest phase, so that the bar stays where it is.
    name = progress.phase.ljust(11) if width >= 50 else progress.phase
    grid.add_row(Text(name, style=f"bold {style}"), bar, Text(f"{progress.fraction:.0%}", style="bold"))
    return grid


def _pace(progress: Progress, width: int) -> RenderableType:
    wide = width >= 50
    rate, updates = progress.frames_per_second, progress.metrics.get("speed/updates_per_second")
    frames_text = f"{progress.frames:,} of {progress.total_frames:,}" + (" frames" if wide else "")
    speed = [f"{format_rate(rate)} frames/s"] if rate is not None else []
    if updates is not None and wide:
        speed.append(f"{format_rate(updates)} updates/s")
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(frames_text, f"{format_duration(progress.eta)} left" if progress.eta is not None else "")
    grid.add_row(
        Text(" · ".join(speed), style="dim"), Text(f"{format_duration(progress.elapsed)} elapsed", style="dim")
    )
    return grid


def _sections(progress: Progress, width: int, height: int) -> RenderableType | None:
    """Scores, world model and behaviour: side by side, in two columns, or one below the other."""
    observations = {name: _label(name) for name in observation_losses(progress.metrics)[:OBSERVATION_ROWS]}
    scores = _section("scores", SCORE, _scores(progress), format_score)
    model = _section("world model", ACCENT, _named(progress, observations | MODEL_ROWS), format_number)
    behavior = _section("behaviour", DREAM, _named(progress, BEHAVIOR_ROWS), format_number)
    if width >= 68:
        columns = [[scores], [model], [behavior]]
    elif width >= 46:
        columns = [[scores, behavior], [model]]
    else:
        columns = [[scores, model, behavior]]
    gap = [(Text(""), Text(""))]
    grid = Table.grid(padding=(0, 4), expand=True)
    cells = []
    for column in columns:
        lines: list[tuple[Text, Text]] = []
        for section in filter(None, column):
            lines += gap + section if lines else section
        grid.add_column(ratio=1)
        cells.append(_lines(lines[: max(height, 0)]))
    if not any(cell.row_count for cell in cells):
        return None
    grid.add_row(*cells)
    return grid


def _lines(lines: list[tuple[Text, Text]]) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, justify="right")
    for label, value in lines:
        table.add_row(label, value)
    return table


def _scores(progress: Progress) -> dict[str, float]:
    scores: dict[str, float] = {}
    if progress.mean_return is not None:
        scores["return, last 10"] = progress.mean_return
    if progress.evaluations:
        scores["evaluation"] = progress.evaluations[-1]
        scores["best evaluation"] = max(progress.evaluations)
    if progress.mean_length is not None:
        scores["length"] = round(progress.mean_length)
        scores["episodes"] = progress.episodes
    return scores


def _named(progress: Progress, rows: Mapping[str, str]) -> dict[str, float]:
    return {label: progress.metrics[name] for name, label in rows.items() if name in progress.metrics}


def _section(
    title: str, style: str, rows: Mapping[str, float], text: Callable[[float], str]
) -> list[tuple[Text, Text]]:
    lines = [(Text(title, style=f"bold {style}"), Text(""))] if rows else []
    for label, value in rows.items():
        shown = f"{value:,}" if isinstance(value, int) else text(value)
        lines.append((Text(label), Text(shown, style="bold" if math.isfinite(value) else ALARM)))
    return lines


def _sparks(progress: Progress, width: int) -> RenderableType | None:
    """How returns and loss went since the start, each with its range."""
    rows = [
        ("returns", progress.returns.values, SCORE, format_score),
        ("loss", progress.losses.values, ACCENT, format_number),
    ]
    spans = {name: f"{text(min(values))} to {text(max(values))}" for name, values, _, text in rows if len(values) > 1}
    room = width - 7 - 4 - max((len(span) for span in spans.values()), default=0)
    if not spans or room < 4:
        return None
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, width=7)
    grid.add_column(no_wrap=True, width=room)
    grid.add_column(no_wrap=True)
    for name, values, style, _ in rows:
        if name in spans:
            grid.add_row(name, Text(sparkline(values, room), style=style), Text(spans[name], style="dim"))
    return grid
