"""The report as one page of panels, one function each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reverie.analysis.charts import (
    COLORS,
    DASHED,
    GREY,
    INK,
    check_suffix,
    make_figure,
    save_figure,
    style_axes,
    style_frames,
    write_text,
)  # fmt: skip
from reverie.analysis.curves import Curve, curve, smooth
from reverie.analysis.diagnose.heads import Bin
from reverie.analysis.diagnose.latents import UNUSED_KL
from reverie.analysis.diagnose.learning import OPTIMIZERS
from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import Finding

BLUE, ORANGE, GREEN, PURPLE = COLORS[:4]
LIMIT: dict[str, Any] = {"color": ORANGE, "linewidth": 1, "linestyle": DASHED}
DIAGONAL: dict[str, Any] = {"color": GREY, "linewidth": 1, "linestyle": DASHED}
OPEN: dict[str, Any] = {"color": ORANGE, "markerfacecolor": "white"}
UPPER_RIGHT: dict[str, Any] = {"x": 0.98, "y": 0.97, "ha": "right", "va": "top"}
SHOWN_FINDINGS = 6


def draw(report: Report, findings: Sequence[Finding], out: Path) -> Path:
    """Draw all panels under a title that names the worst findings."""
    check_suffix(out)
    figure = make_figure(11.0, 9.6)
    for axes, (title, panel) in zip(figure.subplots(3, 3).flat, PANELS.items(), strict=True):
        style_axes(axes, title=title)
        panel(axes, report)
    head = f"{report.config.env.name}: {report.frames:,} frames, {report.updates:,} updates; "
    named = [f"{finding.severity}: {finding.rule}" for finding in findings if finding.severity != "ok"]
    if len(named) > SHOWN_FINDINGS:
        named[SHOWN_FINDINGS:] = [f"and {len(named) - SHOWN_FINDINGS} more"]
    text = f"{head}{report.steps_seen:,} steps of the replay\n{'   '.join(named) or 'nothing found'}"
    figure.suptitle(text, fontsize=10, x=0.01, ha="left", color=INK, linespacing=1.4)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr,call-arg]
    return save_figure(figure, out, dpi=130)


def kl_per_variable(axes: Axes, report: Report) -> None:
    """Draw bars of the KL of each variable, largest first."""
    found = report.latents
    axes.bar(range(1, found.variables + 1), found.kl_per_variable, color=BLUE, width=0.85)
    axes.axhline(UNUSED_KL, **LIMIT)
    axes.set(xlabel="latent variable, most first", ylabel="nats")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, max(max(found.kl_per_variable), UNUSED_KL) * 1.2)
    write_text(axes, f"{found.kl:.2f} nats in all, {found.unused_variables} unused", color=INK, **UPPER_RIGHT)


def class_usage(axes: Axes, report: Report) -> None:
    """Draw a heat map of the mean posterior probability of every class of every variable."""
    usage = report.latents.usage
    if usage is None:
        return _leave_empty(axes, "these latents have no classes")
    axes.imshow(np.array(usage), aspect="auto", cmap="cividis", vmin=0, interpolation="nearest")
    axes.set(xlabel="class, most used first", ylabel="latent variable")
    axes.grid(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    write_text(axes, f"dark: 0, yellow: {np.max(usage):.0%}", 1.0, 1.025, ha="right", color=INK)


def open_loop(axes: Axes, report: Report) -> None:
    """Draw the error by horizon of the model, two naive predictions, and the model in a holdout."""
    if not report.observation:
        return _leave_empty(axes, "no observations are predicted")
    found = report.predictions[report.observation]
    lines: list[tuple[str, list[float | None], str, Any]] = [
        ("model", found.model, BLUE, "-"),
        ("repeating the last", [None, *found.repeat[1:]], ORANGE, DASHED),
        ("the mean", found.mean, GREY, (0, (1, 1.5))),
    ]
    if report.holdout is not None:
        held_out = report.holdout.predictions[report.observation].model
        lines.append(("model, holdout run", held_out, GREEN, (0, (6, 1, 1, 1))))
    for name, values, color, style in lines:
        numbers = np.array(values, np.float64)  # None becomes nan
        axes.plot(range(len(numbers)), numbers, color=color, linestyle=style, linewidth=1.8, label=name)
    axes.axvline(report.config.behavior.horizon, color="#cccccc", linewidth=0.8, zorder=0, label="horizon of the actor")
    axes.set_ylim(bottom=0)
    unit = "per pixel (white is 1)" if report.observation in report.images else "squared error"
    axes.set(xlabel="steps ahead, 0 is seen", ylabel=f"{report.observation}, {unit}")
    _legend(axes)


def reward_reliability(axes: Axes, report: Report) -> None:
    """Draw mean actual reward against mean prediction, by bin of the prediction, and by sign of the reward."""
    found = report.rewards
    ends = [end for one in found.bins for end in (one.predicted, one.actual)]
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], **DIAGONAL)
    _bins(axes, found.bins)
    for (name, one), marker in zip(found.groups.items(), ("o", "^", "v"), strict=False):
        axes.plot(one.predicted, one.actual, marker, markersize=7, label=f"{name} ({one.count:,})", **OPEN)
    axes.set(xlabel="predicted", ylabel="actual")
    _legend(axes, title="steps by actual reward", title_fontsize=7)


def discount_reliability(axes: Axes, report: Report) -> None:
    """Draw the share of steps that ended an episode against the predicted probability."""
    found = report.discounts
    if found is None:
        return _leave_empty(axes, "the discount is a constant")
    axes.plot([0, 1], [0, 1], **DIAGONAL)
    _bins(axes, found.bins)
    if found.on_terminal is not None:
        x = min(max(1 - found.on_terminal / found.gamma, 0.0), 1.0)
        axes.plot(x, 1.0, "^", markersize=8, clip_on=False, **OPEN)
        side = "center" if 0.15 < x < 0.85 else "left" if x <= 0.15 else "right"
        _annotate(axes, f"{found.terminals} ends", (x, 1.0), (0, -14), ha=side)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.06))
    axes.set(xlabel="predicted probability of an end", ylabel="share that ended")


def values(axes: Axes, report: Report) -> None:
    """Draw return against value of single states."""
    points = np.array(report.points)
    x, y = points[:, np.isfinite(points).all(0)]
    if not len(x):
        return _leave_empty(axes, "no states to show")
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    axes.hexbin(x, y, gridsize=28, extent=(low, high, low, high), mincnt=1, bins="log", cmap="Blues", linewidths=0.2)
    axes.plot([low, high], [low, high], **DIAGONAL)
    found = report.values.replayed or report.values.imagined
    axes.set(xlabel="value", ylabel="return in the replay" if report.values.replayed else "imagined return")
    write_text(axes, f"bias {found.bias:+.3f}", 0.03, 0.97, ha="left", va="top", color=INK)


def actions(axes: Axes, report: Report) -> None:
    """Draw the mean probability of each action, or mode and scale of continuous ones."""
    found = report.policy
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if found.actions is None:
        if found.mode is None:
            return _leave_empty(axes, "not known for this actor")
        spread = found.scale or [0.0] * len(found.mode)
        axes.errorbar(range(len(found.mode)), found.mode, spread, fmt="o", color=BLUE, capsize=3)
        axes.axhline(0, color="#cccccc", linewidth=0.8)
        axes.set(xlabel="dimension", ylabel="mode ± scale", xlim=(-0.5, len(found.mode) - 0.5))
        return
    start = 0
    for shares in found.actions:
        axes.bar(range(start, start + len(shares)), shares, color=BLUE, width=0.85)
        axes.plot((start - 0.5, start + len(shares) - 0.5), [1 / len(shares)] * 2, **LIMIT)
        start += len(shares) + 1
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(0, 1.15 * max(max(shares) for shares in found.actions))
    axes.set(xlabel="action", ylabel="mean probability")
    write_text(axes, "dashed: at random", color=ORANGE, fontsize=7, **UPPER_RIGHT)


def actor_entropy(axes: Axes, report: Report) -> None:
    """Draw the entropy of the policy in imagination over training."""
    if not _over_frames(axes, curve(report.rows, "actor/entropy"), BLUE, "_"):
        return _leave_empty(axes, "not recorded yet")
    most = report.policy.max_entropy
    axes.axhline(most, **LIMIT)
    _annotate(axes, "at random", (0.98, most), (0, -9), ("axes fraction", "data"), fontsize=7, ha="right")
    if report.policy.kind == "discrete":
        axes.set_ylim(0, 1.08 * most)
    axes.set_ylabel("nats")


def gradients(axes: Axes, report: Report) -> None:
    """Draw the norms of the three optimizers' gradients over training, and their clips."""
    lines = {name: curve(report.rows, f"{name}/gradient_norm") for name in OPTIMIZERS}
    colors = (BLUE, GREEN, PURPLE)
    if not any([_over_frames(axes, *entry) for entry in zip(lines.values(), colors, lines, strict=True)]):
        return _leave_empty(axes, "not recorded yet")
    clips = {found.clip for found in report.learning.gradients.values() if found.clip}
    for clip in clips:
        axes.axhline(clip, label="clip" if len(clips) == 1 else "_", **LIMIT)
    axes.set(yscale="log", ylabel="norm before clipping")
    axes.set_ylim(top=30 * max(axes.get_ylim()[1], *clips, 1e-6))  # room for the legend
    _legend(axes, loc="upper right", ncols=4, handlelength=1.2)


PANELS: dict[str, Callable[[Axes, Report], None]] = {
    "KL by latent variable": kl_per_variable,
    "Use of the classes": class_usage,
    "Open-loop error": open_loop,
    "Reward: predicted and actual": reward_reliability,
    "End of episode: predicted and actual": discount_reliability,
    "Value and return": values,
    "Actions": actions,
    "Actor entropy": actor_entropy,
    "Gradient norms": gradients,
}
"""Functions that draw a report in axes of the common style."""


def _leave_empty(axes: Axes, text: str) -> None:
    write_text(axes, text)
    axes.set(xticks=[], yticks=[])


def _legend(axes: Axes, **style: Any) -> None:
    axes.legend(**{"frameon": False, "fontsize": 7, "labelcolor": INK, "loc": "best", **style})


def _annotate(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[int, int], coords: Any = "data", **style: Any
) -> None:
    style = {"fontsize": 8, "color": ORANGE, **style}
    axes.annotate(text, at, xycoords=coords, xytext=offset, textcoords="offset points", **style)


def _bins(axes: Axes, bins: list[Bin]) -> None:
    """Draw a reliability curve; the area of a point grows with the steps behind it."""
    x, y, counts = np.array([(one.predicted, one.actual, one.count) for one in bins]).T
    axes.plot(x, y, color=BLUE, linewidth=1.2)
    axes.scatter(x, y, s=8 + 60 * (counts / counts.max()) ** 0.5, color=BLUE, zorder=3)


def _over_frames(axes: Axes, line: Curve, color: str, label: str) -> bool:
    """Draw a metric, smoothed over a pale original; return False if there is none."""
    if len(line):
        even = smooth(line, 0.05)
        marker = "o" if len(line) < 3 else None
        axes.plot(line.frames, line.values, color=color, linewidth=0.8, alpha=0.3)
        axes.plot(even.frames, even.values, color=color, linewidth=1.8, label=label, marker=marker, markersize=4)
        style_frames(axes)
    return len(line) > 0
