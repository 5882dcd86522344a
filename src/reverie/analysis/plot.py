"""Learning curves of runs as a figure for papers and pages."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from reverie.analysis import charts
from reverie.analysis.charts import COLORS, DASHED
from reverie.analysis.comparison import label_agents
from reverie.analysis.curves import band, smooth
from reverie.analysis.format import frames_text
from reverie.analysis.labels import COMPUTATION, agent_settings, setting_text
from reverie.analysis.published import Variant, curve, task
from reverie.analysis.runs import Run
from reverie.analysis.scores import variants_of
from reverie.config import flatten
from reverie.errors import ReverieError

RETURN = "return"
"""Stands for two metrics in one figure: returns of training episodes and of evaluations."""


PUBLISHED: Mapping[Variant, Any] = {"release": (0, (1, 1.2)), "schedules": (0, (4, 1.5, 1, 1.5))}
"""Dashes."""


def plot_learning_curve(
    runs: Sequence[Run], out: Path, metric: str = RETURN, rows: int | None = None, published: bool = False
) -> Path:
    """Draw a metric of runs over environment frames.

    Seeds of one agent share a colour: a thin line each, their mean, and a band from their least to their greatest over
    the frames that all have. Runs that differ in more than the seed are drawn apart; see `grouped`.

    Args:
        runs: at least one.
        out: file to write.
        metric: a name in the runs' metrics, or `return`: of training episodes, smoothed over a tenth, and evaluations.
        rows: number of rows of a moving average; the curve itself stays, faint.
        published: draw DreamerV2's published curve, too, as far as the runs go.

    Raises:
        ReverieError: if no run has the metric, if nothing is published for their environment, if the ending of `out`
            is none of .svg, .png and .pdf, or if it cannot be written.
    """
    charts.check_suffix(out)
    known = sorted({RETURN, *(name for run in runs for row in run.rows for name in row)})
    if metric not in known:
        near = [name for name in known if metric in name][:3] or get_close_matches(metric, known, 3, cutoff=0)
        raise ReverieError(f"No run has the metric '{metric}'; did you mean {' or '.join(near)}?")
    figure = charts.make_figure(7.2, 3.8)
    axes = figure.add_subplot()
    for index, (name, group) in enumerate(grouped(runs).items()):
        draw_runs(axes, group, group, name, COLORS[index % len(COLORS)], metric, rows)
    places = {run.environment for run in runs}
    if published:
        end = max(run.frames for run in runs)
        starts = [draw_published(axes, place, variant, end) for place in places for variant in variants_of(runs)]
        if metric != RETURN or len(places) > 1 or not any(start is not None and start <= end for start in starts):
            raise ReverieError(
                f"There is no published curve of {metric} in {', '.join(sorted(places))} up to {frames_text(end)} "
                "frames. No figure was written. Leave out --published."
            )
    charts.style_axes(axes, y=metric, title=places.pop() if len(places) == 1 else "Learning curves")
    charts.style_frames(axes, 6)
    if not axes.lines:
        charts.write_text(axes, "not recorded")
    charts.legend_above(figure, axes, 80)
    return charts.save_figure(figure, out, dpi=160)


def draw_runs(
    axes: Axes,
    runs: Sequence[Run],
    counted: Sequence[Run],
    label: str,
    color: str,
    metric: str = RETURN,
    rows: int | None = None,
) -> None:
    """Draw a metric of each run, and the mean of those counted with a band from the least to the greatest of them.

    Mean and band cover the frames that all counted runs have; where the mean ends early, its label has the end.
    """
    styles: dict[str, dict[str, Any]] = {metric: {}}
    if metric == RETURN:
        # Distinct in shape, for print.
        styles = {"episode/return": {}, "eval/return": {"marker": "o", "linestyle": DASHED}}
    for name, style in styles.items():
        lines = {id(run): line for run in runs if len(line := run.curve(name))}
        for key, line in lines.items():
            if rows or name == "episode/return":
                axes.plot(line.frames, line.values, color=color, linewidth=0.7, alpha=0.3)
                lines[key] = smooth(line, rows=rows)
        averaged = [lines[id(run)] for run in counted if id(run) in lines]
        frames, mean, low, high = band(averaged)
        if len(lines) > 1:
            for line in lines.values():
                axes.plot(line.frames, line.values, color=color, linewidth=0.7, alpha=0.45)
            axes.fill_between(frames, low, high, color=color, alpha=0.18, linewidth=0)
        if len(frames):
            is_shorter = frames[-1] < 0.98 * max(line.frames[-1] for line in lines.values())
            end = f", to {frames_text(frames[-1])} frames" if is_shorter else ""
            what = {"episode/return": "training", "eval/return": "evaluation"}.get(name, "" if label else name)
            text = f"{', '.join(filter(None, (label, what)))} (n={len(averaged)}{end})"
            style |= {"markersize": 4, "markerfacecolor": "white", "markevery": len(frames) // 8 + 1}
            axes.plot(frames, mean, label=text, color=color, linewidth=1.6, zorder=3, **style)


def draw_published(axes: Axes, environment: str, variant: Variant, end: float) -> float | None:
    """Draw DreamerV2's published curve, mean and deviation over seeds, up to a number of frames.

    Returns:
        The first of its frames, None if there is no curve. Nothing is drawn where that is beyond `end`.
    """
    line = curve(environment, variant)
    if line is None or line.frames[0] > end:
        return None if line is None else float(line.frames[0])
    inside = line.frames <= end
    x, mean, std, n = (values[inside] for values in (line.frames, line.mean, line.std, line.seeds))
    found = task(environment)
    agent = f"DreamerV2 ({variant})" if found and found.suite == "atari" else "DreamerV2 from pixels"
    label = f"{agent}, published (n={'-'.join(map(str, np.unique([n.min(), n.max()])))})"
    axes.fill_between(x, mean - std, mean + std, color="black", alpha=0.10, linewidth=0)
    marker = "*" if len(x) < 3 else ""
    axes.plot(x, mean, color="black", linestyle=PUBLISHED[variant], marker=marker, label=label)
    return float(line.frames[0])


def grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs that may be averaged, by a label of what distinguishes them from the others.

    They are runs of one environment whose settings agree but for the seed, the length and how often they are logged and
    evaluated. Two of the same seed are no seeds of one agent, and stay apart, labelled by their paths.
    """
    labels, _ = label_agents(runs)
    names = []
    for run in runs:
        computation = [setting_text(*entry) for entry in flatten(run.config).items() if entry[0] in COMPUTATION]
        names.append((run.environment, labels[agent_settings(run.config)], *computation))
    varied = [len(set(column)) > 1 for column in zip(*names, strict=True)]
    groups: dict[str, list[Run]] = {}
    for run, parts in zip(runs, names, strict=True):
        label = ", ".join(part for part, is_varied in zip(parts, varied, strict=True) if is_varied)
        groups.setdefault(label, []).append(run)
    apart: dict[str, list[Run]] = {}
    for label, group in groups.items():
        has_doubles = len({run.seed for run in group}) < len(group)
        apart |= {f"{label}, {run.path}".lstrip(", "): [run] for run in group} if has_doubles else {label: group}
    return apart
