"""The figures of a report."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from reverie.analysis.charts import COLORS, INK, PALE, legend_outside, make_figure, style_axes, style_frames
from reverie.analysis.comparison import Entry, Environment
from reverie.analysis.curves import Curve, band, smooth
from reverie.analysis.published import PublishedCurve, Variant, curve, game_scores
from reverie.analysis.report.references import variants_of
from reverie.analysis.statistics import Statistics, title_of

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (9, 3)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH, HEIGHT = 4.8, 3.1
"""Inches. Small, so that letters of 8 points are still legible on a phone."""
LABEL = 56  # letters in a line of the legend; longer names are broken
LINE, LINES = 0.15, 4
"""Inches of a line of the legend, and lines for which a figure has room; it grows with further ones."""
PUBLISHED: Mapping[Variant, Any] = {"release": (0, (1, 1.2)), "schedules": (0, (4, 1.5, 1, 1.5))}
"""Dashes of the published curves, which are black."""


def style(index: int) -> dict[str, Any]:
    """Return the colour, dashes and marker of an agent; black is for what was published."""
    return {
        "color": COLORS[index % (len(COLORS) - 1)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markerfacecolor": "white",
        "markersize": 4,
        "linewidth": 1.6,
    }


def entry_curves(entry: Entry) -> tuple[str, list[Curve]]:
    """Return the name and curves of an agent's evaluations if every run has them, or else of its training episodes."""
    evaluations = [run.evaluation for run in entry.runs]
    if all(map(len, evaluations)):
        return "evaluations", evaluations
    return "training episodes", [smooth(run.training) for run in entry.runs]


def learning_curves(place: Environment, agents: Sequence[str]) -> Figure:
    """Draw all agents in one environment: a thin line a seed, their mean, and a band from the least to the greatest.

    Mean and band cover the frames that all counted seeds have; a cross marks where a run stopped early. DreamerV2's
    published curves are drawn as far as these runs go.
    """
    figure = make_figure(WIDTH, HEIGHT)
    axes = figure.add_subplot()
    end = max(run.frames for run in place.runs)
    for entry in place.entries:
        _draw_entry(axes, entry, style(agents.index(entry.agent)))
    for variant in variants_of(place.runs):
        line = curve(place.name, variant)
        if line is not None and line.frames[0] <= end:
            _draw_published(axes, line, variant, end, bool(game_scores(place.name)))
    _draw_levels(axes, place.name)
    style_axes(axes, y="return")
    style_frames(axes)
    if max(map(abs, axes.get_ylim())) >= 10_000:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, 1.02 * end)
    _legend(figure, axes)
    return figure


def aggregates(found: Statistics, agents: Sequence[str]) -> Figure:
    """Draw a panel for each aggregate: points with intervals, a row for each agent."""
    numbers = {name: agents.index(name) for name in found.aggregates}
    rows = math.ceil(len(found.kinds) / 2)
    figure = make_figure(WIDTH, 0.55 + rows * (0.55 + 0.22 * len(numbers)))
    grid = figure.subplots(rows, 2, squeeze=False)
    for axes in grid.flat[len(found.kinds) :]:
        axes.set_visible(False)
    for axes, kind in zip(grid.flat, found.kinds, strict=False):
        for row, (name, number) in enumerate(numbers.items()):
            point, low, high = found.aggregates[name][kind]
            look = style(number)
            if math.isfinite(low):
                axes.plot([low, high], [row, row], color=look["color"], linewidth=5, alpha=0.35, zorder=2)
            axes.plot(point, row, look["marker"], color=look["color"], markersize=6, zorder=3)
        axes.set_yticks(range(len(numbers)), [str(number + 1) for number in numbers.values()])
        axes.set_ylim(len(numbers) - 0.5, -0.5)
        style_axes(axes, title=title_of(kind), size=8)
        axes.grid(axis="x", color=PALE, linewidth=0.6)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.margins(x=0.12)
    for name, number in numbers.items():
        grid[0, 0].plot([], [], label=f"{number + 1}  {name}", **style(number))
    _legend(figure, grid[0, 0])
    return figure


def profiles(found: Statistics, agents: Sequence[str], unit: str) -> Figure:
    """Draw the share of runs above each normalised score, with its band."""
    figure = make_figure(WIDTH, HEIGHT)
    axes = figure.add_subplot()
    for name, profile in found.profiles.items():
        look, x = style(agents.index(name)), profile.thresholds
        if np.isfinite(profile.low).all():
            axes.fill_between(x, profile.low, profile.high, color=look["color"], alpha=0.18, linewidth=0, step="post")
        axes.step(x, profile.share, where="post", label=name, markevery=max(1, len(x) // 8), **look)
    axes.set_ylim(-0.02, 1.04)
    style_axes(axes, f"{unit} τ", "share of runs with more than τ")
    _legend(figure, axes)
    return figure


def _draw_entry(axes: Axes, entry: Entry, look: Mapping[str, Any]) -> None:
    source, lines = entry_curves(entry)
    color = look["color"]
    for run, line in zip(entry.runs, lines, strict=True):
        if len(line):
            axes.plot(line.frames, line.values, color=color, linewidth=0.7, alpha=0.45, zorder=1.5)
            if run.status == "stopped":
                axes.plot(line.frames[-1], line.values[-1], "x", color=color, markersize=6, markeredgewidth=1.6)
    counted = [line for run, line in zip(entry.runs, lines, strict=True) if run in entry.counted and len(line)]
    frames, mean, low, high = band(counted)
    if len(counted) > 1:
        axes.fill_between(frames, low, high, color=color, alpha=0.16, linewidth=0)
    label = f"{entry.agent}{'' if source == 'evaluations' else ', training'} (n={len(counted)})"
    axes.plot(frames, mean, label=label, markevery=max(1, len(frames) // 8), zorder=3, **look)


def _draw_published(axes: Axes, line: PublishedCurve, variant: Variant, end: float, has_variants: bool) -> None:
    inside = line.frames <= end
    frames, mean, std, seeds = (values[inside] for values in (line.frames, line.mean, line.std, line.seeds))
    count = str(seeds.min()) if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    label = f"DreamerV2{f' ({variant})' if has_variants else ''}, published (n={count})"
    lone: dict[str, Any] = {"marker": "*", "markersize": 7} if len(frames) == 1 else {}
    if lone:
        axes.errorbar(frames, mean, std, color="#000000", linewidth=0, elinewidth=1, capsize=2)
    axes.fill_between(frames, mean - std, mean + std, color="#000000", alpha=0.10, linewidth=0)
    axes.plot(frames, mean, color="#000000", linestyle=PUBLISHED[variant], linewidth=1.3, label=label, **lone)


def _draw_levels(axes: Axes, environment: str) -> None:
    """Draw the levels of random play and of a gamer where they lie in or close to what is drawn."""
    game = game_scores(environment)
    if game is None:
        return
    low, high = axes.get_ylim()
    reach = 0.35 * (high - low)
    is_close = abs(game.gamer - game.random) < 0.1 * (high - low)
    for name, level, dashes in (("random", game.random, (0, (1, 3))), ("gamer", game.gamer, (0, (6, 4)))):
        below = is_close and level == min(game.gamer, game.random)
        if low - reach <= level <= high + reach:
            axes.axhline(level, color=INK, linewidth=0.8, linestyle=dashes, zorder=1)
            axes.annotate(
                name, (1, level), xycoords=("axes fraction", "data"), xytext=(-2, -1.5 if below else 1.5),
                textcoords="offset points",
                ha="right", va="top" if below else "bottom", fontsize=7, color=INK,
                bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6}, zorder=4,
            )  # fmt: skip


def _legend(figure: Figure, axes: Axes) -> None:
    names = axes.get_legend_handles_labels()[1]
    columns = 1 if max(map(len, names), default=0) > 26 else 2
    legend_outside(
        figure, axes, LABEL, LINE, LINES, columns, loc="outside upper left", handlelength=3.2, borderaxespad=0.2,
        labelspacing=0.3,
    )  # fmt: skip
