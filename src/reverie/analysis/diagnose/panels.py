"""Panels of the picture, one function each: it draws on axes that are dressed already."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from reverie.analysis.curves import COLORS, Curve, curve, smooth
from reverie.analysis.diagnose.calibration import Bin
from reverie.analysis.diagnose.latents import UNUSED_KL
from reverie.analysis.diagnose.learning import NORMS
from reverie.analysis.diagnose.prediction import Horizons
from reverie.analysis.diagnose.report import Report

BLUE, ORANGE, GREEN, PURPLE = COLORS[:4]
GRAY = "#999999"


def dress(axes: Axes) -> None:
    """The look of all panels."""
    axes.tick_params(labelsize=8, colors="#333333", length=3)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRAY)


def kl_per_variable(axes: Axes, report: Report) -> None:
    """Bars of the KL of each variable, most first."""
    found = report.latents
    axes.bar(range(1, found.variables + 1), found.kl_per_variable, color=BLUE, width=0.85)
    axes.axhline(UNUSED_KL, color=ORANGE, linewidth=1, linestyle=(0, (4, 2)))
    _labels(axes, "latent variable, most first", "nats")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    text = f"{found.kl:.2f} nats in all, {found.unused_variables} unused"
    axes.set_ylim(0, max(max(found.kl_per_variable), UNUSED_KL) * 1.2)
    axes.text(0.98, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color="#333333")


def class_usage(axes: Axes, report: Report) -> None:
    """Heat map: mean posterior probability of every class of every variable."""
    usage = report.latents.usage
    if usage is None:
        _say(axes, "these latents have no classes")
        return
    axes.imshow(np.array(usage), aspect="auto", cmap="cividis", vmin=0, interpolation="nearest")
    _labels(axes, "class, most used first", "latent variable")
    axes.grid(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.annotate(
        f"dark: 0, yellow: {np.max(usage):.0%}", (1.0, 1.025), xycoords="axes fraction", fontsize=8, color="#333333",
        ha="right",
    )  # fmt: skip


def open_loop(axes: Axes, report: Report) -> None:
    """Error by horizon: the model, two naive predictions, and the model in another run's replay if there is one."""
    if not report.observation:
        _say(axes, "no observations are predicted")
        return
    found: Horizons = report.predictions[report.observation]
    lines: list[tuple[str, list[float | None], str, Any]] = [
        ("model", found.model, BLUE, "-"),
        ("repeating the last", [None, *found.repeat[1:]], ORANGE, (0, (4, 2))),
        ("the mean", found.mean, GRAY, (0, (1, 1.5))),
    ]
    if report.holdout is not None:
        holdout = report.holdout.predictions[report.observation].model
        lines.append(("model, holdout run", holdout, GREEN, (0, (6, 1, 1, 1))))
    for name, values, color, style in lines:
        numbers = [np.nan if value is None else value for value in values]
        axes.plot(range(len(numbers)), numbers, color=color, linestyle=style, linewidth=1.8, label=name)
    horizon = report.config.behavior.horizon
    axes.axvline(horizon, color="#cccccc", linewidth=0.8, zorder=0, label="horizon of the actor")
    axes.set_ylim(bottom=0)
    unit = "per pixel (white is 1)" if report.observation in report.images else "squared error"
    _labels(axes, "steps ahead, 0 is seen", f"{report.observation}, {unit}")
    _legend(axes)


def reward_reliability(axes: Axes, report: Report) -> None:
    """Mean actual reward against mean prediction, by bin of the prediction, and by sign of the reward."""
    _diagonal(axes, report.rewards.bins)
    _bins(axes, report.rewards.bins)
    for (name, found), marker in zip(report.rewards.groups.items(), ("o", "^", "v"), strict=False):
        axes.plot(
            found.predicted, found.actual, marker, color=ORANGE, markersize=7, markerfacecolor="white",
            label=f"{name} ({found.count:,})",
        )  # fmt: skip
    _labels(axes, "predicted", "actual")
    _legend(axes, "steps by actual reward")


def discount_reliability(axes: Axes, report: Report) -> None:
    """Share of steps that ended an episode, against the predicted probability."""
    found = report.discounts
    if found is None:
        _say(axes, "the discount is a constant")
        return
    _diagonal(axes, [Bin(0, 0, 1), Bin(1, 1, 1)])
    _bins(axes, found.bins)
    if found.on_terminal is not None:
        where = min(max(1 - found.on_terminal / found.gamma, 0.0), 1.0)
        axes.plot(where, 1.0, "^", color=ORANGE, markersize=8, markerfacecolor="white", clip_on=False)
        axes.annotate(
            f"{found.terminals} ends", (where, 1.0), xytext=(0, -14), textcoords="offset points", fontsize=8,
            color=ORANGE, ha="center" if 0.15 < where < 0.85 else "left" if where <= 0.15 else "right",
        )  # fmt: skip
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.06)
    _labels(axes, "predicted probability of an end", "share that ended")


def values(axes: Axes, report: Report) -> None:
    """Single states: return against value."""
    value, returns = report.points
    known = np.isfinite(value) & np.isfinite(returns)
    if not known.any():
        _say(axes, "no states to show")
        return
    x, y = value[known], returns[known]
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    axes.hexbin(x, y, gridsize=28, extent=(low, high, low, high), mincnt=1, bins="log", cmap="Blues", linewidths=0.2)
    axes.plot([low, high], [low, high], color=GRAY, linewidth=1, linestyle=(0, (4, 2)))
    found = report.values.replayed or report.values.imagined
    axes.text(
        0.03,
        0.97,
        f"bias {found.bias:+.3f}",
        transform=axes.transAxes,
        ha="left",
        va="top",
        fontsize=8,
        color="#333333",
    )
    kind = "return in the replay" if report.values.replayed else "imagined return"
    _labels(axes, "value", kind)


def actions(axes: Axes, report: Report) -> None:
    """Mean probability of each action, or mean and scale of continuous ones."""
    found = report.policy
    if found.actions is None:
        if found.mode is None:
            _say(axes, "not known for this actor")
            return
        spread = found.scale or [0.0] * len(found.mode)
        axes.errorbar(range(len(found.mode)), found.mode, spread, fmt="o", color=BLUE, capsize=3)
        axes.axhline(0, color="#cccccc", linewidth=0.8)
        axes.set_xlim(-0.5, len(found.mode) - 0.5)
        _labels(axes, "dimension", "mode ± scale")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return
    start = 0
    for shares in found.actions:
        axes.bar(range(start, start + len(shares)), shares, color=BLUE, width=0.85)
        ends = (start - 0.5, start + len(shares) - 0.5)
        axes.plot(ends, [1 / len(shares)] * 2, color=ORANGE, linewidth=1, linestyle=(0, (4, 2)))
        start += len(shares) + 1
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.annotate(
        "dashed: at random", (0.98, 0.97), xycoords="axes fraction", fontsize=7, color=ORANGE, ha="right", va="top"
    )
    axes.set_ylim(0, 1.15 * max(max(shares) for shares in found.actions))
    _labels(axes, "action", "mean probability")


def actor_entropy(axes: Axes, report: Report) -> None:
    """Entropy of the policy in imagination over training."""
    line = curve(report.rows, "actor/entropy")
    if _over_frames(axes, line, BLUE, ""):
        axes.axhline(report.policy.max_entropy, color=ORANGE, linewidth=1, linestyle=(0, (4, 2)))
        axes.annotate(
            "at random", (0.98, report.policy.max_entropy), xycoords=("axes fraction", "data"), xytext=(0, -9),
            textcoords="offset points", fontsize=7, color=ORANGE, ha="right",
        )  # fmt: skip
        if report.policy.kind == "discrete":
            axes.set_ylim(0, 1.08 * report.policy.max_entropy)
        _labels(axes, "environment frames", "nats")


def gradients(axes: Axes, report: Report) -> None:
    """Norms of the three optimizers' gradients over training, and where they are clipped."""
    drawn = [
        _over_frames(axes, curve(report.rows, NORMS[name]), color, name)
        for name, color in zip(NORMS, (BLUE, GREEN, PURPLE), strict=True)
    ]
    if not any(drawn):
        return
    clips = {found.clip for found in report.learning.gradients.values() if found.clip}
    for clip in clips:
        axes.axhline(clip, color=ORANGE, linewidth=1, linestyle=(0, (4, 2)), label="clip" if len(clips) == 1 else "_")
    axes.set_yscale("log")
    axes.set_ylim(top=30 * max(axes.get_ylim()[1], *clips, 1e-6))  # room for the legend
    _labels(axes, "environment frames", "norm before clipping")
    axes.legend(frameon=False, fontsize=7, labelcolor="#333333", loc="upper right", ncols=4, handlelength=1.2)


def _legend(axes: Axes, title: str = "") -> None:
    axes.legend(title=title, title_fontsize=7, frameon=False, fontsize=7, labelcolor="#333333", loc="best")


def _labels(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=8, color="#333333")
    axes.set_ylabel(y, fontsize=8, color="#333333")


def _say(axes: Axes, text: str) -> None:
    """Words in place of a drawing."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GRAY, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])


def _bins(axes: Axes, bins: list[Bin]) -> None:
    """A reliability curve; the area of a point grows with the steps behind it."""
    most = max(found.count for found in bins)
    x, y = [found.predicted for found in bins], [found.actual for found in bins]
    axes.plot(x, y, color=BLUE, linewidth=1.2)
    axes.scatter(x, y, s=[8 + 60 * (found.count / most) ** 0.5 for found in bins], color=BLUE, zorder=3)


def _diagonal(axes: Axes, bins: list[Bin]) -> None:
    ends = [end for found in bins for end in (found.predicted, found.actual)]
    low, high = min(ends), max(ends)
    axes.plot([low, high], [low, high], color=GRAY, linewidth=1, linestyle=(0, (4, 2)))


def _over_frames(axes: Axes, line: Curve, color: str, label: str) -> bool:
    """Draw a metric, smoothed over a pale original; False, and words, if there is none."""
    if not len(line):
        if not axes.lines and not axes.texts:
            _say(axes, "not recorded yet")
        return False
    axes.plot(line.frames, line.values, color=color, linewidth=0.8, alpha=0.3)
    even = smooth(line, 0.05)
    marker = "o" if len(line) < 3 else None
    axes.plot(even.frames, even.values, color=color, linewidth=1.8, label=label or "_", marker=marker, markersize=4)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    return True
