"""The page of a report: findings first, then the numbers by section."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reverie.analysis.diagnose.learning import Trend
from reverie.analysis.diagnose.prediction import Horizons
from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import Finding, Severity
from reverie.analysis.diagnose.values import Comparison

WIDTH = 80
SIGNS: dict[Severity, tuple[str, str]] = {
    "problem": ("✗", "bold red"),
    "warning": ("!", "bold yellow"),
    "note": ("·", "bold cyan"),
    "ok": ("✓", "bold green"),
}
SHOWN_HORIZONS = (0, 1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 100, 200)

Line = tuple[str, str, str]
"""What, its value, and a remark."""


def page(report: Report, findings: Sequence[Finding]) -> Group:
    """Everything, for a terminal of `WIDTH` columns."""
    parts: list[RenderableType] = [_title(report), Text("\nFindings", style="bold")]
    parts += [_finding(finding) for finding in findings]
    if any(finding.advice for finding in findings):
        hint = "Options change a run with `reverie train ENV --logdir RUN --resume`; those of sizes need a new run."
        parts.append(Padding(Text(hint, style="dim"), (0, 0, 0, 2)))
    for name, lines in _sections(report):
        parts += [Text(f"\n{name}", style="bold"), _numbers(lines)]
        if name == "Prediction":
            parts += [_horizons(key, found, key in report.images) for key, found in report.predictions.items()]
    return Group(*parts)


def _title(report: Report) -> Text:
    return Text.assemble(
        (f"{report.run}\n", "bold"),
        f"{report.config.env.name}, {report.agent_steps:,} agent steps ({report.frames:,} frames), "
        f"{report.updates:,} updates.\n",
        (f"Looked at {report.steps_seen:,} steps, drawn from the {report.replay_steps:,} in the replay.", "dim"),
        (_other(report.holdout), "dim"),
    )


def _other(holdout: Report | None) -> str:
    if holdout is None:
        return ""
    shared = f", without its first {holdout.shared_steps:,}, which are the run's own" if holdout.shared_steps else ""
    return f"\nHoldout: {holdout.steps_seen:,} steps, drawn from {holdout.replay_steps:,} of {holdout.run}{shared}."


def _finding(finding: Finding) -> RenderableType:
    sign, style = SIGNS[finding.severity]
    head = Text.assemble((f"{finding.severity} ", style), (finding.rule, "bold"))
    if finding.severity == "ok":
        head = Text.assemble((finding.section, "bold"), f": {finding.seen}")
    lines: list[RenderableType] = [head]
    if finding.severity != "ok":
        lines += [
            Text(finding.seen),
            Text(finding.means, style="dim"),
            Text.assemble(("Try: ", "bold"), finding.advice),
        ]
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(ratio=1)
    table.add_row(Text(sign, style=style), Group(*lines))
    return Padding(table, (0, 0, 0 if finding.severity == "ok" else 1, 0))


def _numbers(lines: Sequence[Line]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=26)
    table.add_column(justify="right", min_width=10)
    table.add_column(style="dim", ratio=1)
    for what, value, remark in lines:
        table.add_row(f"  {what}", value, remark)
    return table


def _horizons(key: str, found: Horizons, is_image: bool) -> Table:
    """Errors at some horizons, and what they are of the naive predictions' errors."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    title = f"  {key}" + (" (error per pixel, white is 1)" if is_image else " (squared error)")
    for column in ("steps ahead", "error", "of repeating", "of the mean"):
        table.add_column(column, justify="right", header_style="dim")
    for h in SHOWN_HORIZONS:
        if h < len(found.model) and (error := found.model[h]) is not None:
            repeat = percent(found.share_of("repeat", h, h)) if h else "(seen)"
            table.add_row(str(h), f"{error:.5f}", repeat, percent(found.share_of("mean", h, h)))
    outer = Table.grid()
    outer.add_row(Text(title))
    outer.add_row(Padding(table, (0, 0, 0, 4)))
    return outer


def _sections(report: Report) -> Iterator[tuple[str, list[Line]]]:
    yield "Latents", _latents(report)
    yield "Prediction", _prediction(report)
    yield "Reward", _rewards(report)
    yield "Discount", _discounts(report)
    yield "Value", _values(report)
    yield "Actor", _actor(report)
    yield "Learning", _learning(report)
    if report.holdout is not None:
        yield "Held-out experience", _holdout(report, report.holdout)


def _latents(report: Report) -> list[Line]:
    found = report.latents
    kl = found.kl_per_variable
    lines = [
        ("KL, posterior to prior", f"{found.kl:.2f} nats", f"per variable {min(kl):.3f} to {max(kl):.3f}"),
        ("unused variables", f"{found.unused_variables} of {found.variables}", "KL next to nothing"),
        ("posterior entropy", f"{found.posterior_entropy:.1f} nats", _of_most(found.posterior_entropy_share)),
        ("prior entropy", f"{found.prior_entropy:.1f} nats", _of_most(found.prior_entropy_share)),
        ("information in latents", f"{found.information:.1f} nats", "about what was seen, summed"),
    ]
    if found.classes is not None:
        of = f" of {found.variables * found.classes}"
        lines += [
            ("unused classes", f"{found.unused_classes}{of}", "next to no probability in any state"),
            ("never the likeliest", f"{found.never_likeliest}{of}", ""),
        ]
    return lines


def _of_most(share: float | None) -> str:
    return "differential" if share is None else f"{share:.0%} of the most possible"


def _prediction(report: Report) -> list[Line]:
    lines = []
    for key, found in report.predictions.items():
        span = found.useful()
        value = "at no step" if span is None else f"{span[0]} to {span[1]}"
        lines.append((f"{key} beats naive", value, f"steps ahead, of {len(found.model) - 1}"))
    return lines


def _rewards(report: Report) -> list[Line]:
    found = report.rewards
    lines = [
        ("mean", f"{found.mean:+.4f}", f"predicted {found.predicted_mean:+.4f}"),
        ("correlation", decimal(found.correlation), f"explained variance {decimal(found.explained)}"),
    ]
    for name, there in found.groups.items():
        remark = f"mean {there.actual:+.3f}, predicted {there.predicted:+.3f}"
        lines.append((f"{name} rewards", f"{there.count:,} steps", remark))
    return lines


def _discounts(report: Report) -> list[Line]:
    found = report.discounts
    if found is None:
        return [("constant", f"{report.config.world_model.discount:g}", "not predicted in this run")]
    on_terminal = "none seen" if found.on_terminal is None else f"{found.on_terminal:.4f}"
    on_going = "none seen" if found.on_going is None else f"{found.on_going:.4f}"
    return [
        ("where it goes on", on_going, f"right is {found.gamma:g}"),
        ("where it ends", on_terminal, f"right is 0; {found.terminals} ends"),
        ("ends among all steps", f"{found.end_rate:.3%}", f"predicted {found.predicted_end_rate:.3%}"),
    ]


def _values(report: Report) -> list[Line]:
    lines: list[Line] = []
    kinds: list[tuple[str, Comparison | None]] = [
        ("imagined", report.values.imagined),
        ("replayed", report.values.replayed),
    ]
    for name, found in kinds:
        if found is None:
            lines.append((f"{name} returns", "none", "sequences are too short"))
            continue
        whose = "of the present policy" if name == "imagined" else "of the older policies in the replay"
        lines += [
            (f"{name} returns", f"{found.returns:+.3f}", f"{whose}; values {found.value:+.3f}"),
            (
                "  bias of the values",
                f"{found.bias:+.3f}",
                f"± {found.bias_error:.3f}; returns spread by {found.spread:.3f}",
            ),
            ("  correlation", decimal(found.correlation), f"explained variance {decimal(found.explained)}"),
        ]
    return lines


def _actor(report: Report) -> list[Line]:
    found = report.policy
    lines = [("entropy", f"{found.entropy:.3f} nats", _of_most(found.entropy_share))]
    if found.actions is None:
        lines.append(("saturated", percent(found.certain), "values at the ends of their range"))
        if found.scale is not None:
            lines.append(("scale", " ".join(f"{scale:.2f}" for scale in found.scale[:8]), "of the first dimensions"))
        return lines
    lines.append(("certain", percent(found.certain), "states in which one action has 95%"))
    lines.append(("depends on the state", f"{found.dependence or 0:.3f} nats", ""))
    for number, shares in enumerate(found.actions):
        order = sorted(range(len(shares)), key=lambda action: -shares[action])[:5]
        text = ", ".join(f"{action}: {shares[action]:.0%}" for action in order)
        lines.append(("favourite actions" if number == 0 else f"  part {number + 1}", "", text))
    return lines


def _learning(report: Report) -> list[Line]:
    found = report.learning
    if not found.rows:
        return [("metrics", "none", "there is no metrics.jsonl with losses yet")]
    lines = [("rows with losses", f"{found.rows:,}", f"{found.not_finite} of them not finite")]
    if found.skipped:
        lines.append(("skipped updates", f"{found.skipped:,}", "a loss or its gradients were not finite"))
    lines += [
        (
            f"{name} gradient norm",
            f"{g.median:.3g}",
            f"largest {g.largest:.3g}, clip {g.clip:g}, clipped {g.clipped:.0%}",
        )
        for name, g in found.gradients.items()
    ]
    lines += [(name, trend.texts()[0], _going(trend)) for name, trend in found.trends.items()]
    lines += [(name, f"{value:.4g}", "mean of the last three") for name, value in found.returns.items()]
    return lines


def _holdout(report: Report, holdout: Report) -> list[Line]:
    """What the model makes of another run's replay, beside what it makes of its own; squared errors."""
    lines: list[Line] = [("KL", f"{holdout.latents.kl:.2f} nats", f"own replay {report.latents.kl:.2f}")]
    for key, found in report.predictions.items():
        last = min(report.config.behavior.horizon, len(found.model) - 1)
        spans = [(f"{key}, 1 to {last} ahead", 1, last)]
        if key != "reward":  # `rewards explained` says that of rewards
            spans.insert(0, (f"{key}, seen", 0, 0))
        for what, first, until in spans:
            own, other = found.error(first, until), holdout.predictions[key].error(first, until)
            if own is not None and other is not None:
                lines.append((what, f"{other:.5f}", f"error; own replay {own:.5f}"))
    own_share, share = decimal(report.rewards.explained), decimal(holdout.rewards.explained)
    lines.append(("rewards explained", share, f"of their variance; own replay {own_share}"))
    return lines


def _going(trend: Trend) -> str:
    return "too few rows for a trend" if trend.direction == "unknown" else f"{trend.direction}, was {trend.texts()[1]}"


def percent(value: float | None) -> str:
    """A share; a dash where there is none."""
    return "–" if value is None else f"{value:.0%}"


def decimal(value: float | None) -> str:
    """A number; a dash where there is none."""
    return "–" if value is None else f"{value:.2f}"
