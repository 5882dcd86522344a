"""What the numbers mean: rules are data, and a finding is a rule that holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from reverie.analysis.diagnose.policy import Policy
from reverie.analysis.diagnose.report import Report

Severity = Literal["problem", "warning", "note", "ok"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note", "ok")
"""Worst first: learning is broken; something is probably wrong; worth knowing; nothing found."""

SECTIONS = ("latents", "prediction", "reward", "discount", "value", "actor", "learning")

ENOUGH_UPDATES = 1000
"""Below this many updates a finding about what was learnt is only a note: the target critic has been copied ten times
at most, and even the small tasks of the learning proofs (docs/results.md) take some 1,300."""


@dataclass(frozen=True)
class Rule:
    """A condition on a report, and what to say where it holds."""

    name: str
    section: str
    severity: Severity
    seen: Callable[[Report], str | None]
    """What was seen, with its figures; None where the rule does not hold."""
    means: str
    advice: Callable[[Report], str]
    """What to try, with the options to type."""
    early: bool = True
    """Whether it holds its severity before `ENOUGH_UPDATES`; otherwise it is a note until then."""


@dataclass(frozen=True)
class Finding:
    """A rule that holds for a run."""

    rule: str
    section: str
    severity: Severity
    seen: str
    means: str
    advice: str


def find(report: Report, rules: Sequence[Rule]) -> list[Finding]:
    """Findings, worst first; a section in which no rule holds has one of severity `ok`."""
    findings = []
    for rule in rules:
        seen = rule.seen(report)
        if seen is not None:
            softened = not rule.early and report.updates < ENOUGH_UPDATES
            severity: Severity = "note" if softened else rule.severity
            findings.append(Finding(rule.name, rule.section, severity, seen, rule.means, rule.advice(report)))
    troubled = {finding.section for finding in findings}
    findings += [
        Finding(f"{name}-ok", name, "ok", summary, "", "")
        for name in SECTIONS
        if name not in troubled and (summary := _summary(name, report))
    ]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _summary(section: str, report: Report) -> str:
    """One sentence on a section without findings; empty if there is nothing in it."""
    discounts, learning = report.discounts, report.learning
    return {
        "latents": f"{report.latents.kl:.2f} nats of KL over {report.latents.variables} variables, "
        f"{report.latents.unused_variables} of them unused.",
        "prediction": _predicted(report),
        "reward": f"Predicted and actual rewards correlate with {_number(report.rewards.correlation)}.",
        "discount": ""
        if discounts is None
        else f"{discounts.on_going or 0:.4f} where the episode goes on (right: {discounts.gamma:g}), "
        + ("no end of an episode seen." if discounts.on_terminal is None else f"{discounts.on_terminal:.3f} at ends."),
        "value": f"Off by {report.values.imagined.bias:+.3f} from imagined returns, which spread by "
        f"{report.values.imagined.spread:.3f}.",
        "actor": _acted(report.policy),
        "learning": f"{learning.rows} rows of metrics, all finite, gradients within their clips."
        if learning.rows
        else "",
    }[section]


def _predicted(report: Report) -> str:
    if not report.observation:
        return ""
    span = report.predictions[report.observation].useful()
    if span is None:
        return "No horizon at which the model beats naive predictions."
    return f"Better than both naive predictions from {span[0]} to {span[1]} steps ahead."


def _number(value: float | None) -> str:
    return "(unknown)" if value is None else f"{value:.2f}"


def _acted(policy: Policy) -> str:
    if policy.kind == "continuous":
        entropy = f"Entropy {policy.entropy:.2f} nats, {policy.max_entropy:.2f} for random actions"
        return f"{entropy}; {policy.certain:.0%} of values at the ends of their range."
    share = "" if policy.entropy_share is None else f", {policy.entropy_share:.0%} of the most possible"
    return f"Entropy {policy.entropy:.2f} nats{share}; as good as certain in {policy.certain:.0%} of states."
