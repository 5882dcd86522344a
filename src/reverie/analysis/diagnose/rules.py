"""Findings: rules are data, and a finding is a rule that holds for a report."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.suggestions import suggestions
from reverie.analysis.format import decimal

Severity = Literal["problem", "warning", "note", "ok"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note", "ok")
"""Worst first: learning is broken; something is probably wrong; worth knowing; nothing found."""

ENOUGH_UPDATES = 1000
"""Updates below which a finding about what was learnt is only a note: the target critic has been copied ten times at
most, and even the small tasks of the learning proofs (docs/results.md) take some 1,300."""


@dataclass(frozen=True)
class Rule:
    """A condition on a report, and texts for where it holds.

    `seen` is a format string of the report `r` and of `found`, the result of `holds`; `advice` is one of `suggestions`.
    """

    name: str
    section: str
    severity: Severity
    holds: Callable[[Report], Any]
    seen: str
    means: str
    advice: str
    is_early: bool = False  # whether it keeps its severity before `ENOUGH_UPDATES`; others are notes until then


@dataclass(frozen=True)
class Finding:
    """A rule that holds for a run."""

    rule: str
    section: str
    severity: Severity
    seen: str
    means: str = ""
    advice: str = ""


def find(report: Report, rules: Sequence[Rule]) -> list[Finding]:
    """Return findings, worst first; a section in which no rule holds has one of severity `ok`."""
    findings = []
    options = suggestions(report)
    for rule in rules:
        found = rule.holds(report)
        if found:
            severity = rule.severity if rule.is_early or report.updates >= ENOUGH_UPDATES else "note"
            seen, advice = rule.seen.format(r=report, found=found), rule.advice.format_map(options)
            findings.append(Finding(rule.name, rule.section, severity, seen, rule.means, advice))
    found_in = {finding.section for finding in findings}
    findings += [
        Finding(f"{section}-ok", section, "ok", text)
        for section, summary in SECTIONS.items()
        if section not in found_in and (text := summary(report))
    ]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def number(value: float | None) -> float:
    """Return nan for None, with which no comparison holds."""
    return math.nan if value is None else value


def _prediction(r: Report) -> str:
    if not r.observation:
        return ""
    span = r.predictions[r.observation].useful()
    if span is None:
        return "No horizon at which the model beats naive predictions."
    return f"Better than both naive predictions from {span[0]} to {span[1]} steps ahead."


def _discount(r: Report) -> str:
    d = r.discounts
    if d is None:
        return ""
    ends = "no end of an episode seen." if d.on_terminal is None else f"{d.on_terminal:.3f} at ends."
    return f"{d.on_going or 0:.4f} where the episode continues (right: {d.gamma:g}), {ends}"


def _actor(r: Report) -> str:
    p = r.policy
    if p.kind == "continuous":
        entropy = f"Entropy {p.entropy:.2f} nats, {p.max_entropy:.2f} for random actions"
        return f"{entropy}; {p.certain:.0%} of values at the ends of their range."
    share = "" if p.entropy_share is None else f", {p.entropy_share:.0%} of the most possible"
    return f"Entropy {p.entropy:.2f} nats{share}; as good as certain in {p.certain:.0%} of states."


SECTIONS: dict[str, Callable[[Report], str]] = {
    "latents": lambda r: (
        f"{r.latents.kl:.2f} nats of KL over {r.latents.variables} variables, "
        f"{r.latents.unused_variables} of them unused."
    ),
    "prediction": _prediction,
    "reward": lambda r: (
        f"Predicted and actual rewards correlate with "
        f"{'(unknown)' if r.rewards.correlation is None else decimal(r.rewards.correlation)}."
    ),
    "discount": _discount,
    "value": lambda r: (
        f"Off by {r.values.imagined.bias:+.3f} from imagined returns, which spread by {r.values.imagined.spread:.3f}."
    ),
    "actor": _actor,
    "learning": lambda r: (
        f"{r.learning.rows} rows of metrics, all finite, gradients within their clips." if r.learning.rows else ""
    ),
}
"""Summaries of sections without findings; empty where there is nothing to say."""
