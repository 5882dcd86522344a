"""Findings: what rules.toml says where a rule's condition holds for a report."""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from reverie.analysis.diagnose.conditions import CONDITIONS, ENOUGH_UPDATES
from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.suggestions import suggestions

Severity = Literal["problem", "warning", "note", "ok"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note", "ok")
"""Worst first: learning is broken; something is probably wrong; worth knowing; nothing found."""


@dataclass(frozen=True)
class Rule:
    """Texts for where the condition of this name holds; see rules.toml."""

    name: str
    section: str
    severity: Severity
    seen: str
    means: str
    advice: str
    early: bool = False


RULES = tuple(
    Rule(name, **texts)
    for name, texts in tomllib.loads(Path(__file__).with_name("rules.toml").read_text("utf-8")).items()
)


class Finding(NamedTuple):
    """A rule that holds for a run."""

    rule: str
    section: str
    severity: Severity
    seen: str
    means: str = ""
    advice: str = ""


def find(report: Report) -> list[Finding]:
    """Return findings, worst first; a section in which no rule holds has one of severity `ok`."""
    options = suggestions(report)
    findings = []
    for rule in RULES:
        if found := CONDITIONS[rule.name](report):
            severity = rule.severity if rule.early or report.updates >= ENOUGH_UPDATES else "note"
            seen, advice = rule.seen.format(r=report, found=found), rule.advice.format_map(options)
            findings.append(Finding(rule.name, rule.section, severity, seen, rule.means, advice))
    found_in = {finding.section for finding in findings}
    findings += [
        Finding(f"{section}-ok", section, "ok", text)
        for section, summary in SECTIONS.items()
        if section not in found_in and (text := summary(report))
    ]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _prediction(r: Report) -> str:
    if not r.observation:
        return ""
    if (span := r.predictions[r.observation].useful()) is None:
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
        "Predicted and actual rewards correlate with "
        f"{'(unknown)' if r.rewards.correlation is None else f'{r.rewards.correlation:.2f}'}."
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
