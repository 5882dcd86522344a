"""The page of a report in a terminal: findings first, then the numbers by section."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import Finding, Severity
from reverie.analysis.format import Measures, optional

WIDTH = 80
SIGNS: dict[Severity, tuple[str, str]] = {
    "problem": ("✗", "bold red"),
    "warning": ("!", "bold yellow"),
    "note": ("·", "bold cyan"),
    "ok": ("✓", "bold green"),
}
SHOWN_HORIZONS = (0, 1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 100, 200)

Lines = Iterator[tuple[str, str, str]]  # name, value and remark of each number


def page(report: Report, findings: Sequence[Finding]) -> Group:
    """Return everything for a terminal of `WIDTH` columns."""
    parts: list[RenderableType] = [_title(report), Text("\nFindings", style="bold"), *map(_finding, findings)]
    if any(finding.advice for finding in findings):
        hint = "Options change a run with `reverie train ENV --logdir RUN --resume`; those of sizes need a new run."
        parts.append(Padding(Text(hint, style="dim"), (0, 0, 0, 2)))
    sections = {
        "Latents": _latents(report),
        "Prediction": _prediction(report),
        "Reward": _rewards(report),
        "Discount": _discounts(report),
        "Value": _values(report),
        "Actor": _actor(report.policy),
        "Learning": _learning(report.learning),
        "Held-out experience": _holdout(report),
    }
    for name, lines in sections.items():
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=26)
        table.add_column(justify="right", min_width=10)
        table.add_column(style="dim", ratio=1)
        for what, value, remark in lines:
            table.add_row(f"  {what}", value, remark)
        if table.row_count:
            parts += [Text(f"\n{name}", style="bold"), table]
        if name == "Prediction":
            parts += [_horizons(report, key) for key in report.predictions]
    return Group(*parts)


def _title(r: Report) -> Text:
    so_far = f"{r.config.env.name}, {r.agent_steps:,} agent steps ({r.frames:,} frames), {r.updates:,} updates.\n"
    drawn = f"Examined {r.steps_seen:,} steps, drawn from the {r.replay_steps:,} in the replay."
    if r.holdout is not None:
        h = r.holdout
        shared = f", without its first {h.shared_steps:,}, which are the run's own" if h.shared_steps else ""
        drawn += f"\nHoldout: {h.steps_seen:,} steps, drawn from {h.replay_steps:,} of {h.run}{shared}."
    return Text.assemble((f"{r.run}\n", "bold"), so_far, (drawn, "dim"))


def _finding(finding: Finding) -> RenderableType:
    sign, style = SIGNS[finding.severity]
    lines = [Text.assemble((finding.section, "bold"), f": {finding.seen}")]
    if finding.severity != "ok":
        head = Text.assemble((f"{finding.severity} ", style), (finding.rule, "bold"))
        advice = Text.assemble(("Try: ", "bold"), finding.advice)
        lines = [head, Text(finding.seen), Text(finding.means, style="dim"), advice]
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(ratio=1)
    table.add_row(Text(sign, style=style), Group(*lines))
    return Padding(table, (0, 0, int(finding.severity != "ok"), 0))


def _horizons(report: Report, key: str) -> RenderableType:
    """Return errors at some horizons, and their shares of the naive predictions' errors."""
    found = report.predictions[key]
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for column in ("steps ahead", "error", "of repeating", "of the mean"):
        table.add_column(column, justify="right", header_style="dim")
    for h in SHOWN_HORIZONS:
        if h < len(found.model) and (error := found.model[h]) is not None:
            repeat, mean = (optional(found.share_of(naive, h, h), ".0%") for naive in ("repeat", "mean"))
            table.add_row(str(h), f"{error:.5f}", repeat if h else "(seen)", mean)
    title = f"  {key}" + (" (error per pixel, white is 1)" if key in report.images else " (squared error)")
    return Group(Text(title), Padding(table, (0, 0, 0, 4)))


def _latents(report: Report) -> Lines:
    found, kl = report.latents, report.latents.kl_per_variable
    yield "KL, posterior to prior", f"{found.kl:.2f} nats", f"per variable {min(kl):.3f} to {max(kl):.3f}"
    yield "unused variables", f"{found.unused_variables} of {found.variables}", "KL next to nothing"
    yield "posterior entropy", f"{found.posterior_entropy:.1f} nats", _of_most(found.posterior_entropy_share)
    yield "prior entropy", f"{found.prior_entropy:.1f} nats", _of_most(found.prior_entropy_share)
    yield "information in latents", f"{found.information:.1f} nats", "about what was seen, summed"
    if found.classes is not None:
        total = found.variables * found.classes
        yield "unused classes", f"{found.unused_classes} of {total}", "next to no probability in any state"
        yield "never the likeliest", f"{found.never_likeliest} of {total}", ""


def _of_most(share: float | None) -> str:
    return "differential" if share is None else f"{share:.0%} of the most possible"


def _prediction(report: Report) -> Lines:
    for key, found in report.predictions.items():
        span = found.useful()
        value = "at no step" if span is None else f"{span[0]} to {span[1]}"
        yield f"{key} beats naive", value, f"steps ahead, of {len(found.model) - 1}"


def _correlation(found: Measures) -> tuple[str, str]:
    return optional(found.correlation, ".2f"), f"explained variance {optional(found.explained, '.2f')}"


def _rewards(report: Report) -> Lines:
    found = report.rewards
    yield "mean", f"{found.mean:+.4f}", f"predicted {found.predicted_mean:+.4f}"
    yield "correlation", *_correlation(found)
    for name, there in found.groups.items():
        remark = f"mean {there.actual:+.3f}, predicted {there.predicted:+.3f}"
        yield f"{name} rewards", f"{there.count:,} steps", remark


def _discounts(report: Report) -> Lines:
    found = report.discounts
    if found is None:
        yield "constant", f"{report.config.world_model.discount:g}", "not predicted in this run"
        return
    going, ends = ("none seen" if mean is None else f"{mean:.4f}" for mean in (found.on_going, found.on_terminal))
    yield "where it continues", going, f"right is {found.gamma:g}"
    yield "where it ends", ends, f"right is 0; {found.terminals} ends"
    yield "ends among all steps", f"{found.end_rate:.3%}", f"predicted {found.predicted_end_rate:.3%}"


def _values(report: Report) -> Lines:
    kinds = {"imagined": "of the present policy", "replayed": "of the older policies in the replay"}
    for name, whose in kinds.items():
        found = getattr(report.values, name)
        if found is None:
            yield f"{name} returns", "none", "sequences are too short"
            continue
        yield f"{name} returns", f"{found.returns:+.3f}", f"{whose}; values {found.value:+.3f}"
        spread = f"± {found.bias_error:.3f}; returns spread by {found.spread:.3f}"
        yield "  bias of the values", f"{found.bias:+.3f}", spread
        yield "  correlation", *_correlation(found)


def _actor(found: Measures) -> Lines:
    yield "entropy", f"{found.entropy:.3f} nats", _of_most(found.entropy_share)
    if found.actions is None:
        yield "saturated", f"{found.certain:.0%}", "values at the ends of their range"
        if found.scale is not None:
            yield "scale", " ".join(f"{scale:.2f}" for scale in found.scale[:8]), "of the first dimensions"
        return
    yield "certain", f"{found.certain:.0%}", "states in which one action has 95%"
    yield "depends on the state", f"{found.dependence or 0:.3f} nats", ""
    for number, shares in enumerate(found.actions, 1):
        order = sorted(range(len(shares)), key=lambda action: -shares[action])[:5]
        text = ", ".join(f"{action}: {shares[action]:.0%}" for action in order)
        yield "favourite actions" if number == 1 else f"  part {number}", "", text


def _learning(found: Measures) -> Lines:
    if not found.rows:
        yield "metrics", "none", "there is no metrics.jsonl with losses yet"
        return
    yield "rows with losses", f"{found.rows:,}", f"{found.not_finite} of them not finite"
    if found.skipped:
        yield "skipped updates", f"{found.skipped:,}", "a loss or its gradients were not finite"
    for name, g in found.gradients.items():
        remark = f"largest {g.largest:.3g}, clip {g.clip:g}, clipped {g.clipped:.0%}"
        yield f"{name} gradient norm", f"{g.median:.3g}", remark
    for name, trend in found.trends.items():
        latest, before = trend.texts()
        is_known = trend.direction != "unknown"
        yield name, latest, f"{trend.direction}, was {before}" if is_known else "too few rows for a trend"
    for name, value in found.returns.items():
        yield name, f"{value:.4g}", "mean of the last three"


def _holdout(report: Report) -> Lines:
    """Yield squared errors and the like in another run's replay, compared with its own."""
    if report.holdout is None:
        return
    other = report.holdout
    yield "KL", f"{other.latents.kl:.2f} nats", f"own replay {report.latents.kl:.2f}"
    for key, found in report.predictions.items():
        last = min(report.config.behavior.horizon, len(found.model) - 1)
        # Of rewards, `rewards explained` covers those that are seen.
        spans = {} if key == "reward" else {f"{key}, seen": (0, 0)}
        for what, span in {**spans, f"{key}, 1 to {last} ahead": (1, last)}.items():
            own, error = found.error(*span), other.predictions[key].error(*span)
            if own is not None and error is not None:
                yield what, f"{error:.5f}", f"error; own replay {own:.5f}"
    explained = [optional(one.rewards.explained, ".2f") for one in (other, report)]
    yield "rewards explained", explained[0], f"of their variance; own replay {explained[1]}"
