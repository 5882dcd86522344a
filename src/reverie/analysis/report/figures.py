"""The figures of a report."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from reverie.analysis.charts import COLORS
from reverie.analysis.comparison import Comparison, Entry, Environment
from reverie.analysis.curves import Curve, band, smooth
from reverie.analysis.published import PublishedCurve, Variant, curve, game_scores
from reverie.analysis.report.references import variants_of
from reverie.analysis.statistics import Estimate, Statistics

INK, GREY, PALE = "#222222", "#555555", "#dddddd"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (9, 3)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH, HEIGHT = 4.8, 3.1
"""Inches. Small, so that letters of 8 points are still legible on a phone."""
LABEL = 56
"""Letters in a line of the legend; longer names are broken."""
LINE, LINES = 0.15, 4
"""Inches of a line of the legend, and lines for which a figure has room; it grows with further ones."""
PUBLISHED: Mapping[Variant, Any] = {"release": (0, (1, 1.2)), "schedules": (0, (4, 1.5, 1, 1.5))}
"""Dashes of the published curves, which are black."""


def style(index: int) -> dict[str, Any]:
    """How an agent is drawn: told apart by colour, by dashes and by markers."""
    colors = COLORS[:-1]  # black is for what was published
    return {
        "color": colors[index % len(colors)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markerfacecolor": "white",
        "markersize": 4,
        "linewidth": 1.6,
    }


def entry_curves(entry: Entry) -> tuple[str, list[Curve]]:
    """What is drawn of an agent's runs: evaluations if every run has them, or else smoothed training episodes."""
    evaluations = [run.evaluation for run in entry.runs]
    if all(len(line) for line in evaluations):
        return "evaluations", evaluations
    return "training episodes", [smooth(run.training) for run in entry.runs]


def learning_curves(place: Environment, agents: Sequence[str]) -> Figure:
    """All agents in one environment: a thin line a seed, their mean, and a band from the least to the greatest.

    Mean and band cover the frames that all counted seeds have; a cross marks where a run stopped early. DreamerV2's
    published curves are drawn as far as these runs go.
    """
    figure, axes = _figure(HEIGHT)
    end = max(run.frames for entry in place.entries for run in entry.runs)
    for entry in place.entries:
        _draw_entry(axes, entry, style(agents.index(entry.agent)))
    for variant in variants_of(run for entry in place.entries for run in entry.runs):
        line = curve(place.name, variant)
        if line is not None and line.frames[0] <= end:
            seeds = line.seeds[line.frames <= end].tolist()
            _draw_published(axes, line, variant, end, _published_label(place.name, variant, seeds))
    _draw_levels(axes, place.name)
    axes.set_xlim(0, 1.02 * end)
    _dress_frames(axes)
    _legend(figure, axes)
    return figure


def published_curves(environment: str, variants: Sequence[Variant]) -> Figure:
    """DreamerV2's published curves of one environment."""
    figure, axes = _figure(HEIGHT * 0.85)
    for index, variant in enumerate(variants):
        line = curve(environment, variant)
        if line is not None:
            look = {"color": COLORS[index], "linestyle": DASHES[index], "linewidth": 1.5}
            thin = slice(None, None, 2)
            axes.fill_between(
                line.frames[thin], (line.mean - line.std)[thin], (line.mean + line.std)[thin], alpha=0.18, linewidth=0,
                color=look["color"],
            )  # fmt: skip
            axes.plot(line.frames, line.mean, label=f"{variant} ({line.seeds.max()} seeds)", **look)
    _draw_levels(axes, environment)
    axes.set_xlim(left=0)
    _dress_frames(axes)
    _legend(figure, axes)
    return figure


def aggregates(found: Statistics, titles: Mapping[str, str], agents: Sequence[str]) -> Figure:
    """A panel an aggregate: points with intervals, an agent a row."""
    names = list(found.aggregates)
    kinds = [kind for kind in titles if kind in found.aggregates[names[0]]]
    columns = 2
    rows = math.ceil(len(kinds) / columns)
    figure = _empty(0.55 + rows * (0.55 + 0.22 * len(names)))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(kinds) :]:
        axes.set_visible(False)
    for axes, kind in zip(grid.flat, kinds, strict=False):
        for row, name in enumerate(names):
            _draw_estimate(axes, row, found.aggregates[name][kind], style(agents.index(name)))
        axes.set_yticks(range(len(names)), [str(agents.index(name) + 1) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(titles[kind], fontsize=8, loc="left", color=INK)
        _dress(axes, "", "")
        axes.grid(axis="x", color=PALE, linewidth=0.6)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.margins(x=0.12)
    for name in names:
        grid[0, 0].plot([], [], label=f"{agents.index(name) + 1}  {name}", **style(agents.index(name)))
    _legend(figure, grid[0, 0])
    return figure


def profiles(found: Statistics, agents: Sequence[str], unit: str) -> Figure:
    """Share of runs above each normalised score, with its band."""
    figure, axes = _figure(HEIGHT)
    for name, profile in found.profiles.items():
        look = style(agents.index(name))
        if np.isfinite(profile.low).all():
            axes.fill_between(
                profile.thresholds, profile.low, profile.high, color=look["color"], alpha=0.18, linewidth=0, step="post"
            )
        axes.step(
            profile.thresholds, profile.share, where="post", label=name, markevery=max(1, len(profile.thresholds) // 8),
            **look,
        )  # fmt: skip
    axes.set_ylim(-0.02, 1.04)
    _dress(axes, f"{unit} τ", "share of runs with more than τ")
    _legend(figure, axes)
    return figure


def palette(comparison: Comparison) -> dict[str, str]:
    """Colour by agent."""
    return {agent: str(style(index)["color"]) for index, agent in enumerate(comparison.agents)}


def _draw_entry(axes: Axes, entry: Entry, look: Mapping[str, Any]) -> None:
    source, lines = entry_curves(entry)
    for run, line in zip(entry.runs, lines, strict=True):
        if len(line):
            axes.plot(line.frames, line.values, color=look["color"], linewidth=0.7, alpha=0.45, zorder=1.5)
            if run.status == "stopped":
                axes.plot(line.frames[-1], line.values[-1], "x", color=look["color"], markersize=6, markeredgewidth=1.6)
    counted = [line for run, line in zip(entry.runs, lines, strict=True) if run in entry.counted and len(line)]
    frames, mean, low, high = band(counted)
    suffix = "" if source == "evaluations" else ", training"
    label = f"{entry.agent}{suffix} (n={len(counted)})"
    if not len(frames):
        axes.plot([], [], label=label, **look)
        return
    if len(counted) > 1:
        axes.fill_between(frames, low, high, color=look["color"], alpha=0.16, linewidth=0)
    axes.plot(frames, mean, label=label, markevery=max(1, len(frames) // 8), zorder=3, **look)


def _draw_published(axes: Axes, line: PublishedCurve, variant: Variant, end: float, label: str) -> None:
    inside = line.frames <= end
    frames, mean, std = line.frames[inside], line.mean[inside], line.std[inside]
    lone: dict[str, Any] = {"marker": "*", "markersize": 7} if len(frames) == 1 else {}
    if lone:
        axes.errorbar(frames, mean, std, color="#000000", linewidth=0, elinewidth=1, capsize=2)
    axes.fill_between(frames, mean - std, mean + std, color="#000000", alpha=0.10, linewidth=0)
    axes.plot(frames, mean, color="#000000", linestyle=PUBLISHED[variant], linewidth=1.3, label=label, **lone)


def _published_label(environment: str, variant: Variant, seeds: Sequence[int]) -> str:
    count = str(min(seeds)) if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
    kind = f" ({variant})" if game_scores(environment) else ""
    return f"DreamerV2{kind}, published (n={count})"


def _draw_levels(axes: Axes, environment: str) -> None:
    """Levels of random play and of a gamer, where they lie in what is drawn or just beside it."""
    game = game_scores(environment)
    if game is None:
        return
    low, high = axes.get_ylim()
    reach = 0.35 * (high - low)
    close = abs(game.gamer - game.random) < 0.1 * (high - low)
    for name, level, dashes in (("random", game.random, (0, (1, 3))), ("gamer", game.gamer, (0, (6, 4)))):
        below = close and level == min(game.gamer, game.random)
        if low - reach <= level <= high + reach:
            axes.axhline(level, color=GREY, linewidth=0.8, linestyle=dashes, zorder=1)
            axes.annotate(
                name, (1, level), xycoords=("axes fraction", "data"), xytext=(-2, -1.5 if below else 1.5),
                textcoords="offset points",
                ha="right", va="top" if below else "bottom", fontsize=7, color=GREY,
                bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6}, zorder=4,
            )  # fmt: skip


def _draw_estimate(axes: Axes, row: int, estimate: Estimate, look: Mapping[str, Any]) -> None:
    if math.isfinite(estimate.low):
        axes.plot([estimate.low, estimate.high], [row, row], color=look["color"], linewidth=5, alpha=0.35, zorder=2)
    axes.plot(estimate.point, row, look["marker"], color=look["color"], markersize=6, zorder=3)


def _empty(height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = _empty(height)
    return figure, figure.add_subplot()


def _dress(axes: Axes, horizontal: str, vertical: str) -> None:
    axes.set_xlabel(horizontal, fontsize=8, color=INK)
    axes.set_ylabel(vertical, fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=3)
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")


def _dress_frames(axes: Axes) -> None:
    """Returns over frames."""
    _dress(axes, "environment frames", "return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if max(map(abs, axes.get_ylim())) >= 10_000:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))


def _legend(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    if handles:
        wide = max(map(len, names)) > 26
        labels = [textwrap.fill(name, LABEL) for name in names]
        lines = sum(label.count("\n") + 1 for label in labels) / (1 if wide else 2)
        figure.set_figheight(figure.get_figheight() + LINE * max(lines - LINES, 0))
        figure.legend(
            handles, labels, loc="outside upper left", ncols=1 if wide else 2, frameon=False, fontsize=8,
            labelcolor=INK, handlelength=3.2, borderaxespad=0.2, labelspacing=0.3,
        )  # fmt: skip
