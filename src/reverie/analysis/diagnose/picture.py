"""The report as one page of panels, one function each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reverie.analysis import charts
from reverie.analysis.diagnose.examine import Report
from reverie.analysis.diagnose.rules import Finding
from reverie.analysis.diagnose.statistics import UNUSED_KL, Bin
from reverie.analysis.format import listed

BLUE, ORANGE, GREEN = charts.COLORS[:3]
LIMIT: dict[str, Any] = {"color": ORANGE, "linewidth": 1, "linestyle": charts.DASHED}
DIAGONAL: dict[str, Any] = {"color": charts.GREY, "linewidth": 1, "linestyle": charts.DASHED}
OPEN: dict[str, Any] = {"color": ORANGE, "markerfacecolor": "white"}
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 7, "labelcolor": charts.INK, "loc": "best", "title_fontsize": 7}


def draw(report: Report, findings: Sequence[Finding], out: Path) -> Path:
    """Draw all panels under a title that names the worst findings."""
    charts.check_suffix(out)
    figure = charts.make_figure(11.0, 6.6)
    for axes, (title, panel) in zip(figure.subplots(2, 3).flat, PANELS.items(), strict=True):
        charts.style_axes(axes, title=title)
        panel(axes, report)
    named = listed([f"{finding.rule} ({finding.severity})" for finding in findings if finding.severity != "ok"])
    head = f"{report.environment}: {report.frames:,} frames, {report.updates:,} updates; {report.steps_seen:,} steps"
    text = f"{head} of the replay\n{named or 'nothing found'}"
    figure.suptitle(text, fontsize=10, x=0.01, ha="left", color=charts.INK)
    return charts.save_figure(figure, out, dpi=130)


def kl_per_variable(axes: Axes, report: Report) -> None:
    """Draw bars of the KL of each variable, largest first."""
    found = report.latents
    axes.bar(range(1, found.variables + 1), found.kl_per_variable, color=BLUE, width=0.85)
    axes.axhline(UNUSED_KL, **LIMIT)
    axes.set(xlabel="latent variable, most first", ylabel="nats")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, max(max(found.kl_per_variable), UNUSED_KL) * 1.2)
    text = f"{found.kl:.2f} nats in all, {found.unused_variables} unused"
    charts.write_text(axes, text, 0.98, 0.97, ha="right", va="top", color=charts.INK)


def open_loop(axes: Axes, report: Report) -> None:
    """Draw the error by horizon of the model, two naive predictions, and the model in a holdout."""
    key = report.observation
    found = report.prediction[key]
    lines: list[tuple[str, list[float], str, Any]] = [
        ("model", found.model, BLUE, "-"),
        ("repeating the last", [np.nan, *found.repeat[1:]], ORANGE, charts.DASHED),
        ("the mean", found.mean, charts.GREY, (0, (1, 1.5))),
    ]
    if report.holdout is not None:
        lines.append(("model, holdout run", report.holdout.prediction[key].model, GREEN, (0, (6, 1, 1, 1))))
    for name, values, color, style in lines:
        axes.plot(range(len(values)), values, color=color, linestyle=style, linewidth=1.8, label=name)
    axes.axvline(
        report.config.behavior.horizon, color=charts.PALE, linewidth=0.8, zorder=0, label="horizon of the actor"
    )
    axes.set_ylim(bottom=0)
    unit = "per pixel (white is 1)" if key in report.images else "squared error"
    axes.set(xlabel="steps ahead, 0 is seen", ylabel=f"{key}, {unit}")
    axes.legend(**LEGEND)


def reward_reliability(axes: Axes, report: Report) -> None:
    """Draw mean actual reward against mean prediction, by bin of the prediction, and by sign of the reward."""
    found = report.reward
    ends = [end for one in found.bins for end in (one.predicted, one.actual)]
    _bins(axes, found.bins, min(ends), max(ends))
    for (name, one), marker in zip(found.groups.items(), ("o", "^", "v"), strict=False):
        axes.plot(one.predicted, one.actual, marker, markersize=7, label=f"{name} ({one.steps:,})", **OPEN)
    axes.set(xlabel="predicted", ylabel="actual")
    axes.legend(title="steps by actual reward", **LEGEND)


def discount_reliability(axes: Axes, report: Report) -> None:
    """Draw the share of steps that ended an episode against the predicted probability."""
    found = report.discount
    if found is None:
        return charts.write_text(axes, "the discount is a constant")
    _bins(axes, found.bins, 0, 1)
    if found.terminals:
        x = min(max(1 - found.on_terminal / found.gamma, 0.0), 1.0)
        axes.plot(x, 1.0, "^", markersize=8, clip_on=False, label=f"{found.terminals} ends", **OPEN)
        axes.legend(**LEGEND)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.06))
    axes.set(xlabel="predicted probability of an end", ylabel="share that ended")


def values(axes: Axes, report: Report) -> None:
    """Draw return against value of single states."""
    points = np.array(report.points)
    x, y = points[:, np.isfinite(points).all(0)]
    low, high = min(x.min(), y.min()), max(x.max(), y.max()) + 1e-6
    axes.hexbin(x, y, gridsize=28, extent=(low, high, low, high), mincnt=1, bins="log", cmap="Blues", linewidths=0.2)
    axes.plot([low, high], [low, high], **DIAGONAL)
    kind = "replayed" if "replayed" in report.value else "imagined"
    axes.set(xlabel="value", ylabel=f"{kind} return")
    charts.write_text(axes, f"bias {report.value[kind].bias:+.3f}", 0.03, 0.97, ha="left", va="top", color=charts.INK)


def actions(axes: Axes, report: Report) -> None:
    """Draw the mean probability of each action, or mode and scale of continuous ones."""
    found = report.actor
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if found.kind == "continuous":
        spread = found.scale or [0.0] * len(found.mode)
        axes.errorbar(range(len(found.mode)), found.mode, spread, fmt="o", color=BLUE, capsize=3)
        axes.axhline(0, color=charts.PALE, linewidth=0.8)
        axes.set(xlabel="dimension", ylabel="mode ± scale", xlim=(-0.5, len(found.mode) - 0.5))
        return
    start = 0
    for shares in found.actions:
        axes.bar(range(start, start + len(shares)), shares, color=BLUE, width=0.85)
        axes.plot((start - 0.5, start + len(shares) - 0.5), [1 / len(shares)] * 2, **LIMIT)
        start += len(shares) + 1
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(0, 1.15 * max(max(shares) for shares in found.actions))
    axes.set(xlabel="action, dashed: at random", ylabel="mean probability")


PANELS: dict[str, Callable[[Axes, Report], None]] = {
    "KL by latent variable": kl_per_variable,
    "Open-loop error": open_loop,
    "Reward: predicted and actual": reward_reliability,
    "End of episode: predicted and actual": discount_reliability,
    "Value and return": values,
    "Actions": actions,
}


def _bins(axes: Axes, bins: list[Bin], low: float, high: float) -> None:
    """Draw a reliability curve and its diagonal; the area of a point grows with the steps behind it."""
    x, y, steps = np.array(bins).T
    axes.plot([low, high], [low, high], **DIAGONAL)
    axes.plot(x, y, color=BLUE, linewidth=1.2)
    axes.scatter(x, y, s=8 + 60 * (steps / steps.max()) ** 0.5, color=BLUE, zorder=3)
