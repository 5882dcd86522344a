"""Learning curves from the metrics of runs, as a figure for papers and pages."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from reverie.errors import ReverieError, RunError
from reverie.files import replacing
from reverie.training.metrics import observation_losses, read_metrics

Floats = NDArray[np.float64]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind eyes can tell apart; its yellow is too light for paper."""
SUFFIXES = (".svg", ".png", ".pdf")
SMOOTHING = 0.1
"""A smoothed point averages this share of the curve around it."""


@dataclass(frozen=True)
class Curve:
    """One metric over environment frames; frames rise and values are finite."""

    frames: Floats
    values: Floats

    def __len__(self) -> int:
        return len(self.frames)


def curve(rows: Sequence[Mapping[str, float]], name: str) -> Curve:
    """The rows that have this metric, without those that are not finite."""
    points = [(row["frames"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
    array = np.array(sorted(points), np.float64).reshape(-1, 2)
    return Curve(array[:, 0], array[:, 1])


def smooth(line: Curve, share: float = SMOOTHING) -> Curve:
    """Centred moving average over a window of frames, which does not shift the curve as a running mean would.

    Args:
        line: the curve.
        share: width of the window, as a share of the whole. Near the ends it shrinks evenly on both sides.
    """
    if len(line) < 3:
        return line
    half = share * (line.frames[-1] - line.frames[0]) / 2
    reach = np.minimum(half, np.minimum(line.frames - line.frames[0], line.frames[-1] - line.frames))
    first = np.searchsorted(line.frames, line.frames - reach, side="left")
    last = np.searchsorted(line.frames, line.frames + reach, side="right")
    sums = np.concatenate([[0.0], np.cumsum(line.values)])
    return Curve(line.frames, (sums[last] - sums[first]) / (last - first))


def band(lines: Sequence[Curve], points: int = 400) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, least and greatest of several curves, over the frames that all of them have.

    Returns:
        Frames, mean, minimum and maximum, each [P]; curves are interpolated in between. Empty if they do not overlap.
    """
    filled = [line for line in lines if len(line)]
    start = max((line.frames[0] for line in filled), default=0.0)
    end = min((line.frames[-1] for line in filled), default=-1.0)
    if end < start:
        return (np.empty(0),) * 4
    grid = np.unique(np.concatenate([line.frames for line in filled]).clip(start, end))
    grid = np.linspace(start, end, points) if len(grid) > points else grid
    values = np.stack([np.interp(grid, line.frames, line.values) for line in filled])
    return grid, values.mean(0), values.min(0), values.max(0)


def _environment(run: Path) -> str:
    """Name of the environment in the run's saved configuration; without one, the name of its folder."""
    folder = run if run.is_dir() else run.parent
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["env"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return folder.resolve().name
    return str(name)


def _group(runs: Sequence[Path]) -> dict[str, list[list[dict[str, float]]]]:
    groups: dict[str, list[list[dict[str, float]]]] = {}
    for run in runs:
        rows = read_metrics(run)
        if not rows:
            raise RunError(f"{run} has no metrics yet; wait for its first row, or leave it out.")
        groups.setdefault(_environment(Path(run)), []).append(rows)
    return groups


def plot_learning_curve(runs: Sequence[Path], out: Path) -> Path:
    """Draw training and evaluation returns over environment frames, and below them image loss and KL.

    Runs in the same environment share a colour: their mean is a line, from their least to their greatest a band.

    Args:
        runs: run folders, or their `metrics.jsonl`.
        out: ends in .svg, .png or .pdf.

    Returns:
        The path of the figure.

    Raises:
        RunError: if there are no runs, or one of them has no metrics.
        ReverieError: if the ending is another one, or the file cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise ReverieError(f"Cannot draw '{out}': its ending must be one of {', '.join(SUFFIXES)}.")
    if not runs:
        raise RunError("There is no run to draw; name at least one run folder.")
    groups = _group(runs)
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(2, 1))
    returns = figure.add_subplot(grid[0, :])
    losses = [figure.add_subplot(grid[1, column], sharex=returns) for column in range(2)]
    seen: list[list[Floats]] = [[], []]
    for index, (name, group) in enumerate(groups.items()):
        color = COLORS[index % len(COLORS)]
        _draw_returns(returns, group, color, f"{name}, " if len(groups) > 1 else "")
        observed = observation_losses(name for row in group[0] for name in row)
        for column, metric in enumerate((observed[0] if observed else "", "model/kl")):
            seen[column].append(_draw_loss(losses[column], group, metric, color))
    for axes, values in zip(losses, seen, strict=True):
        _limit(axes, np.concatenate(values))
    only = next(iter(groups))
    title = f"{only}, {len(runs)} runs" if len(runs) > 1 else only
    _dress(returns, "return", title if len(groups) == 1 else "Learning curves")
    _dress(losses[0], "loss", "Reconstruction")
    _dress(losses[1], "nats", "KL, posterior to prior")
    if returns.get_legend_handles_labels()[0]:
        returns.legend(frameon=False, fontsize=8, loc="best", labelcolor="#333333")
    _save(figure, out)
    return out


def _draw_returns(axes: Axes, group: Sequence[Sequence[Mapping[str, float]]], color: str, prefix: str) -> None:
    training = [curve(rows, "train/return") for rows in group]
    for line in training:
        axes.plot(line.frames, line.values, ".", color=color, markersize=4, alpha=0.35, markeredgewidth=0)
    _draw_band(axes, [smooth(line) for line in training], color, f"{prefix}training")
    evaluation = [curve(rows, "eval/return") for rows in group]
    # Told apart by shape as well as by colour, for print.
    style: dict[str, Any] = {"marker": "o", "markersize": 4.5, "markerfacecolor": "white", "linestyle": (0, (4, 2))}
    dark = "#333333" if not prefix else color
    _draw_band(axes, evaluation, dark, f"{prefix}evaluation", **style)


def _draw_loss(axes: Axes, group: Sequence[Sequence[Mapping[str, float]]], name: str, color: str) -> Floats:
    """Draw the metric and return all its values."""
    lines = [curve(rows, name) for rows in group]
    _draw_band(axes, [smooth(line, 0.02) for line in lines], color, "")
    return np.concatenate([line.values for line in lines])


def _limit(axes: Axes, values: Floats) -> None:
    """Let the axis end at the 98th percentile: the first rows, before anything is learnt, would flatten the rest."""
    if len(values) > 20:
        low, high = values.min(), np.quantile(values, 0.98)
        margin = 0.06 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _draw_band(axes: Axes, lines: Sequence[Curve], color: str, label: str, **style: Any) -> None:
    frames, mean, low, high = band(lines)
    if not len(frames):
        return
    if sum(len(line) > 0 for line in lines) > 1:
        axes.fill_between(frames, low, high, color=color, alpha=0.18, linewidth=0)
    axes.plot(frames, mean, **{"color": color, "linewidth": 1.6, "label": label or "_", **style})


def _dress(axes: Axes, unit: str, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left", color="#222222")
    axes.set_xlabel("environment frames", fontsize=8, color="#333333")
    axes.set_ylabel(unit, fontsize=8, color="#333333")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(labelsize=8, colors="#333333", length=3)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")
    if not axes.lines:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color="#999999", fontsize=8)


def _save(figure: Figure, out: Path) -> None:
    """Write the figure under another name and rename it; the same figure gives the same bytes."""
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix.lower())
    with replacing(out) as temporary, matplotlib.rc_context({"svg.hashsalt": "reverie"}):
        figure.savefig(temporary, dpi=160, metadata=metadata)
