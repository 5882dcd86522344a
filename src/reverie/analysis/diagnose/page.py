"""The page of a report in a terminal: findings first, then the measures by section, named as in the JSON."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reverie.analysis.diagnose.examine import Report
from reverie.analysis.diagnose.rules import Finding, Severity
from reverie.analysis.format import Measures, plain

WIDTH = 80
SIGNS: dict[Severity, tuple[str, str]] = {
    "problem": ("✗", "bold red"),
    "warning": ("!", "bold yellow"),
    "note": ("·", "bold cyan"),
    "ok": ("✓", "bold green"),
}
DIGITS = 6  # significant digits of the JSON; a sample supports fewer


def page(report: Report, findings: Sequence[Finding]) -> Group:
    """Return everything for a terminal of `WIDTH` columns."""
    parts: list[RenderableType] = [Text(f"{report.run}: {report.environment}", style="bold")]
    parts.append(f"{report.agent_steps:,} agent steps ({report.frames:,} frames), {report.updates:,} updates.")
    for name, one in (("Replay", report), ("Holdout", report.holdout)):
        if one:
            shared = f", without its first {one.shared_steps:,}, which are the run's own" if one.shared_steps else ""
            drawn = f"{name}: {one.steps_seen:,} steps, drawn from {one.replay_steps:,} of {one.run}{shared}."
            parts.append(Text(drawn, style="dim"))
    parts += [Text("\nFindings", style="bold"), *map(_finding, findings)]
    if any(finding.advice for finding in findings):
        hint = "\nOptions change a run with `reverie train ENV --logdir RUN --resume`; those of sizes need a new run."
        parts.append(Text(hint, style="dim"))
    held_out = dict(_sections(report.holdout)) if report.holdout else {}
    for name, section in _sections(report):
        parts += [Text(f"\n{name}", style="bold"), _measures(section, held_out.get(name))]
    return Group(*parts)


def to_json(report: Report, findings: Sequence[Finding] = ()) -> dict[str, Any]:
    """Return findings and measures as JSON's types: numbers that are not finite are null."""
    shown = {name: value for name, value in vars(report).items() if name not in ("config", "points", "holdout")}
    holdout = report.holdout and to_json(report.holdout)
    return {"findings": plain(list(findings)), **plain(shown, DIGITS), "holdout": holdout}


def _finding(finding: Finding) -> RenderableType:
    sign, style = SIGNS[finding.severity]
    if finding.severity == "ok":
        return Text.assemble((f"{sign} ", style), (finding.section, "bold"), f": {finding.seen}")
    head = Text.assemble((f"{sign} {finding.severity} ", style), (finding.rule, "bold"))
    advice = Text.assemble(("Try: ", "bold"), finding.advice)
    lines = Group(finding.seen, Text(finding.means, style="dim"), advice)
    return Group(head, Padding(lines, (0, 0, 1, 2)))


def _sections(r: Report) -> Iterator[tuple[str, Measures]]:
    yield "latents", r.latents
    yield from ((f"prediction of {key}", found) for key, found in r.prediction.items())
    yield "reward", r.reward
    yield "discount", r.discount or Measures(constant=r.config.world_model.discount)
    yield from ((f"value and {key} return", found) for key, found in r.value.items())
    yield "actor", r.actor
    yield "learning", r.learning
    yield "speed", r.speed


def _measures(section: Measures, held_out: Measures | None) -> Table:
    """Return a table of names and numbers; lists are in the picture and in the JSON."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=28)
    table.add_column(ratio=1)
    for name, value in vars(section).items():
        if isinstance(value, int | float | str):
            own, other = number(value), number(getattr(held_out, name, value))
            table.add_row(f"  {_label(name)}", own if own == other else f"{own}   holdout {other}")
        for key, item in value.items() if isinstance(value, dict) else ():
            parts = vars(item) if isinstance(item, Measures) else item._asdict()
            table.add_row(f"  {name}: {key}", ", ".join(f"{_label(part)} {number(x)}" for part, x in parts.items()))
    return table


def _label(name: str) -> str:
    return name.replace("_", " ")


def number(value: float | str) -> str:
    """Return a number with four digits, an integer with all of them, and a dash for one that is not known."""
    if isinstance(value, str):
        return value
    return "–" if math.isnan(value) else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
