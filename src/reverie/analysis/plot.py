"""Learning curves of runs as a figure for papers and pages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from reverie.analysis import charts
from reverie.analysis.charts import COLORS, DASHED, INK
from reverie.analysis.comparison import label_agents
from reverie.analysis.curves import Curve, Floats, band, curve, smooth
from reverie.analysis.format import frames_text
from reverie.analysis.labels import COMPUTATION, agent_settings, setting_text
from reverie.analysis.runs import Run, find_runs
from reverie.config import flatten
from reverie.errors import RunError
from reverie.runs.metrics import observation_losses

SHORTER = 0.98  # share of the longest run before which a mean that ends is labelled with its end
WIDTH = 80  # letters in a line of the legend; longer labels are broken


def plot_learning_curve(runs: Sequence[Path], out: Path) -> Path:
    """Draw training and evaluation returns over environment frames, and below them image loss and KL.

    Seeds of one agent share a colour: a thin line each, their mean, and a band from their least to their greatest over
    the frames that all have. Runs that differ in more than the seed are drawn apart; see `grouped`.

    Raises:
        RunError: if there are no runs, or one of them cannot be read.
        ReverieError: if the ending is none of .svg, .png and .pdf, or the file cannot be written.
    """
    out = Path(out)
    charts.check_suffix(out)
    if not runs:
        raise RunError("There is no run to draw; name at least one run folder.")
    found, unreadable = find_runs(runs)
    if unreadable:
        raise RunError(f"{unreadable[0].reason} Leave it out to draw the others.")
    groups, places = grouped(found), {run.environment for run in found}
    figure = charts.make_figure(7.2, 5.4)
    grid = figure.add_gridspec(2, 2, height_ratios=(2, 1))
    returns = figure.add_subplot(grid[0, :])
    losses = [figure.add_subplot(grid[1, column], sharex=returns) for column in range(2)]
    seen: list[list[Floats]] = [[], []]
    for index, (name, group) in enumerate(groups.items()):
        color = COLORS[index % len(COLORS)]
        _draw_returns(returns, group, color, f"{name}, " if len(groups) > 1 else "")
        observed = observation_losses(name for row in group[0].rows for name in row)
        for axes, values, metric in zip(losses, seen, ((*observed, "")[0], "model/kl"), strict=True):
            lines = [curve(run.rows, metric) for run in group]
            _draw_band(axes, [smooth(line, 0.02) for line in lines], color, "")
            values += [line.values for line in lines]
    for axes, values in zip(losses, seen, strict=True):
        _limit(axes, np.concatenate(values))
    title = places.pop() if len(places) == 1 else "Learning curves"
    texts = (("return", title), ("loss", "Reconstruction"), ("nats", "KL, posterior to prior"))
    for axes, (unit, title) in zip((returns, *losses), texts, strict=True):
        charts.style_axes(axes, y=unit, title=title)
        charts.style_frames(axes, 6)
        if not axes.lines:
            charts.write_text(axes, "not recorded")
    if len(groups) > 1:
        charts.legend_outside(figure, returns, WIDTH, 0.17, loc="outside lower left")
    elif returns.get_legend_handles_labels()[0]:
        returns.legend(loc="best", frameon=False, fontsize=8, labelcolor=INK)
    return charts.save_figure(figure, out, dpi=160)


def grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs that may be averaged, by a label of what distinguishes them from the others.

    They are runs of one environment whose settings agree but for the seed, the length and how often they are logged and
    evaluated. Two of the same seed are no seeds of one agent, and stay apart, labelled by their paths.
    """
    labels, _ = label_agents(runs)
    agents: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        agents.setdefault((run.environment, labels[agent_settings(run.config)]), []).append(run)
    places = [environment for environment, _ in agents]
    groups: dict[str, list[Run]] = {}
    for (environment, agent), same in agents.items():
        settings = [flatten(run.config) for run in same]
        differing = [path for path in sorted(COMPUTATION) if len({values[path] for values in settings}) > 1]
        for run, values in zip(same, settings, strict=True):
            parts = [environment] if len(set(places)) > 1 else []
            parts += [agent] if places.count(environment) > 1 else []
            parts += [setting_text(path, values[path]) for path in differing]
            groups.setdefault(", ".join(parts), []).append(run)
    apart: dict[str, list[Run]] = {}
    for name, group in groups.items():
        if len({run.seed for run in group}) == len(group):
            apart[name] = group
        else:
            apart |= {f"{name}, {run.path}" if name else str(run.path): [run] for run in group}
    return apart


def _draw_returns(axes: Axes, group: Sequence[Run], color: str, prefix: str) -> None:
    training = [run.training for run in group]
    for line in training:
        axes.plot(line.frames, line.values, ".", color=color, markersize=4, alpha=0.35, markeredgewidth=0)
    _draw_band(axes, [smooth(line) for line in training], color, f"{prefix}training")
    # Distinct in shape as well as in colour, for print.
    style: dict[str, Any] = {"marker": "o", "markersize": 4.5, "markerfacecolor": "white", "linestyle": DASHED}
    _draw_band(axes, [run.evaluation for run in group], color if prefix else INK, f"{prefix}evaluation", **style)


def _limit(axes: Axes, values: Floats) -> None:
    """Let the axis end at the 98th percentile: the first rows, before anything is learnt, would flatten the rest."""
    if len(values) > 20:
        low, high = values.min(), np.quantile(values, 0.98)
        margin = 0.06 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _draw_band(axes: Axes, lines: Sequence[Curve], color: str, label: str, **style: Any) -> None:
    """Draw mean and band over the frames that all lines have; of several, each to its own end, too."""
    lines = [line for line in lines if len(line)]
    frames, mean, low, high = band(lines)
    if len(lines) > 1:
        for line in lines:
            axes.plot(line.frames, line.values, color=color, linewidth=0.7, alpha=0.45)
        axes.fill_between(frames, low, high, color=color, alpha=0.18, linewidth=0)
        label += f", mean of {len(lines)}" if label else ""
        if label and len(frames) and frames[-1] < SHORTER * max(line.frames[-1] for line in lines):
            label += f" to {frames_text(frames[-1])} frames, where the shortest ends"
    if lines:
        axes.plot(frames, mean, **{"color": color, "linewidth": 1.6, "label": label or "_", **style})
