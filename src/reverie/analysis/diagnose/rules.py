"""Findings: what rules.toml says where a rule's condition holds for a report."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jinja2 import ChainableUndefined, Environment

from reverie.analysis.diagnose.examine import Report
from reverie.analysis.diagnose.learning import OPTIMIZERS
from reverie.config import Config, flatten, parse_schedule

Severity = Literal["problem", "warning", "note", "ok"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note", "ok")  # worst first
ENOUGH_UPDATES = 1000  # below, a finding about what was learnt is only a note; see `too-early`
_compiled = cache(Environment(undefined=ChainableUndefined).compile_expression)


@dataclass(frozen=True)
class Rule:
    """A condition and its texts; see rules.toml."""

    name: str
    section: str
    severity: Severity
    where: str
    seen: str
    means: str = ""
    advice: str = ""
    each: str = ""
    unless: Sequence[str] = ()
    early: bool = False

    def seen_in(self, names: Mapping[str, Any]) -> str:
        """Return what is seen where the condition holds, with every item for which it does; empty where it does not."""
        items: Any = _compiled(self.each)(names) if self.each else {"": None}
        cases = ({**names, "name": name, "it": item} for name, item in items.items())
        texts = [self.seen.format_map(case).rstrip(".") for case in cases if _compiled(self.where)(case)]
        return "; ".join(texts) + "." if texts else ""


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
    means: str
    advice: str


def find(report: Report) -> list[Finding]:
    """Return findings, worst first; a section in which no rule holds has one of severity `ok`."""
    names = {**vars(report), "observed": report.prediction[report.observation]}
    if report.holdout:
        names["held_out"] = report.holdout.prediction[report.observation]
    options = suggestions(report)
    seen = {rule.name: rule.seen_in(names) for rule in RULES}
    holding = [rule for rule in RULES if seen[rule.name] and not any(seen[name] for name in rule.unless)]
    ill = {rule.section for rule in holding if rule.severity != "ok"}
    findings = []
    for rule in holding:
        if rule.severity != "ok" or rule.section not in ill:
            is_certain = rule.early or rule.severity == "ok" or report.updates >= ENOUGH_UPDATES
            severity = rule.severity if is_certain else "note"
            texts = seen[rule.name], rule.means, rule.advice.format_map(options)
            findings.append(Finding(rule.name, rule.section, severity, *texts))
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


class Option:
    """Options to type for some settings; format `0.3` scales their values, or the default of one that is 0."""

    def __init__(self, report: Report, *paths: str) -> None:
        self.report, self.paths = report, paths

    def __getitem__(self, path: str) -> "Option":
        return Option(self.report, path)

    def __format__(self, factor: str) -> str:
        return " with ".join(self._scaled(path, float(factor)) for path in self.paths)

    def _scaled(self, path: str, factor: float) -> str:
        present, default = (flatten(config)[path] for config in (self.report.config, Config()))
        schedule = parse_schedule(present, path, self.report.config.env.action_repeat)
        value = factor * (schedule(self.report.agent_steps) or default)
        text = str(max(round(value), 1)) if isinstance(present, int) else f"{float(f'{value:.2g}'):g}"
        return f"--{path.rstrip('_').replace('_', '-')} {text}"


def suggestions(report: Report) -> dict[str, Any]:
    """Return everything that advice can refer to, by name; `{option[training.steps]:2}` is any single setting."""
    option = Option(report)
    model, training = report.config.world_model, report.config.training
    scales = ("prior_scale", "posterior_entropy_scale") if model.kl.objective == "split" else ("scale",)
    kl = [f"world_model.kl.{scale}" for scale in scales]
    clips = [  # twice the median norm, with half the rate, where gradients are often clipped
        f"{option[f'{OPTIMIZERS[name]}.optimizer.max_grad_norm']:{2 * found.median / found.clip}} with "
        f"{option[f'{OPTIMIZERS[name]}.optimizer.lr']:0.5}"
        for name, found in report.learning.gradients.items()
        if found.clipped > 0.5
    ]
    rewards = f"Rewards weigh {model.loss_scales.reward:g} already: train longer"
    if model.loss_scales.reward < 10:  # Above, they outweigh small objects.
        rewards = f"Weigh rewards more, {option['world_model.loss_scales.reward']:10}"
    if not model.head_gradients.reward:
        rewards += ", and let them form the latents, --world-model.head-gradients.reward true"
    if not training.pretrain_world_model:  # as in the preset atari-laptop (docs/results.md, Boxing)
        rewards += (
            "; or in a new run let the world model learn from random play before behavior does, "
            "--training.pretrain-world-model 9000"
        )
    part, width = ("image", "cnn_depth") if report.observation in report.images else ("vector", "mlp.units")
    steps = training.steps + 3 * training.prefill  # as many after the prefill as now
    return {
        "option": option,
        "kl_scale": Option(report, *kl),
        "harder_prior": "--world-model.kl.balance 0.9, or " * (len(kl) == 1) + f"{option[kl[0]]:3}",
        "wider_clip": ", ".join(clips),
        "reward_loss": rewards,
        "posterior_scale": option[kl[-1]],
        "observation_scale": option[f"world_model.loss_scales.{part}"],
        "wider_decoder": f"{option[f'world_model.decoder.{width}']:2}",
        "random_play": f"{option['training.prefill']:4} with --training.steps {steps}",
    }
