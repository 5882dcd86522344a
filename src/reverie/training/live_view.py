"""Live view of training: one panel that fits the terminal."""

import math
from collections.abc import Callable, Mapping

from rich import box
from rich.console import ConsoleOptions, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reverie.runs.metrics import observation_losses
from reverie.training.progress import (
    Progress,
    format_duration,
    format_number,
    format_rate,
    format_score,
    short_name,
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
    "actor/loss": "actor",
    "critic/loss": "critic",
    "actor/entropy": "entropy",
    "critic/value": "value",
    "imagination/return_mean": "imagined return",
}

# The terminal's own palette, without its white, black and yellow: readable on light and on dark grounds.
ACCENT, SCORE, DREAM, ALARM = "cyan", "green", "magenta", "bold red"
PHASE_STYLES = {"prefill": "blue", "pretraining": "blue", "training": ACCENT, "evaluating": DREAM, "finished": SCORE}


def render(progress: Progress, env: str, facts: list[str], options: ConsoleOptions) -> RenderableType:
    """Draw the panel: fewer columns on a narrow terminal, fewer rows on a low one."""
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
    bar = ProgressBar(progress.total_steps, progress.step, style="dim", complete_style=style)
    bar.finished_style = SCORE
    # As wide as the longest phase, so that the bar does not move.
    name = progress.phase.ljust(11) if width >= 50 else progress.phase
    grid.add_row(Text(name, style=f"bold {style}"), bar, Text(f"{progress.fraction:.0%}", style="bold"))
    return grid


def _pace(progress: Progress, width: int) -> RenderableType:
    wide = width >= 50
    rate, updates = progress.frames_per_second, progress.metrics.get("perf/updates_per_second")
    done = f"{progress.step:,} of {progress.total_steps:,}" + (" steps" if wide else "")
    if wide and progress.frames_per_step > 1:
        done += f" · {progress.frames:,} frames"
    speed = [f"{format_rate(rate)} frames/s"] if rate is not None else []
    if updates is not None and wide:
        speed.append(f"{format_rate(updates)} updates/s")
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    if progress.detail and wide:
        done += f" · {progress.detail}"
    grid.add_row(done, f"{format_duration(progress.eta)} left" if progress.eta is not None else "")
    grid.add_row(
        Text(" · ".join(speed), style="dim"), Text(f"{format_duration(progress.elapsed)} elapsed", style="dim")
    )
    return grid


def _sections(progress: Progress, width: int, height: int) -> RenderableType | None:
    """Draw scores, world model and behaviour in three columns, two or one."""
    observations = {name: short_name(name) for name in observation_losses(progress.metrics)[:OBSERVATION_ROWS]}
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
    """Draw returns and loss since the start, each with its range."""
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
