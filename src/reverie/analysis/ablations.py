"""Ablations compared with the full agent: scores in, verdicts and counts out.

A task has two verdicts:

- by the paper's rule (section 3.2) two results within 5 % of each other are tied: |a - b| <= 0.05 max(|a|, |b|) for the
  means over seeds a and b of the final scores;
- a better or worse is supported if Welch's 95 % interval of a - b leaves out 0. One seed has no interval: tied.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

Verdict = Literal["better", "worse", "tied"]
Rule = Literal["paper", "supported"]

MARGIN = 0.05  # share of the larger mean up to which two results are tied
CONFIDENCE = 0.95

RULES = {
    "paper": (
        f"Paper's rule (section 3.2): two results are tied if they are within {MARGIN:.0%} of each other, here if "
        f"means over seeds differ by at most {MARGIN:.0%} of the larger one in size. The article counted 55 Atari "
        "games at 200M frames."
    ),
    "supported": (
        "Supported by the evidence: better or worse by the paper's rule, and Welch's "
        f"{CONFIDENCE:.0%} interval of the difference leaves out 0; tied otherwise. One seed has no interval and "
        "supports neither."
    ),
}


class Counts(NamedTuple):
    """Tasks on which an ablation is better than the full agent, worse, or tied with it."""

    better: int
    worse: int
    tied: int


ARTICLE: Mapping[str, Counts] = {
    "gaussian-latents": Counts(8, 42, 5),
    "no-kl-balancing": Counts(6, 44, 5),
    "no-image-gradients": Counts(3, 51, 1),
    "no-reward-gradients": Counts(15, 22, 18),
    "reinforce-only": Counts(18, 24, 13),
    "straight-through-only": Counts(5, 44, 6),
}
"""The article's counts over 55 Atari games; ties by the paper's rule."""


@dataclass(frozen=True)
class Comparison:
    """An ablation and the full agent on one task."""

    full: tuple[float, ...]  # final scores, one a seed
    ablation: tuple[float, ...]
    difference: float  # of the means; above 0 where the ablation is better
    interval: tuple[float, float] | None  # of the difference; None with one seed
    paper: Verdict
    supported: Verdict


def compare(full: Sequence[float], ablation: Sequence[float]) -> Comparison:
    """Compare final scores, one a seed; higher is better.

    Raises:
        ValueError: if one of them has no scores, or one that is not finite.
    """
    if not full or not ablation or not all(map(math.isfinite, (*full, *ablation))):
        raise ValueError(f"Cannot compare {ablation} with {full}: every score must be a finite number.")
    means = float(np.mean(ablation)), float(np.mean(full))
    difference = means[0] - means[1]
    interval = welch_interval(ablation, full) if min(len(full), len(ablation)) > 1 else None
    paper: Verdict = "tied"
    if abs(difference) > MARGIN * max(map(abs, means)):
        paper = "better" if difference > 0 else "worse"
    is_clear = interval is not None and not interval[0] <= 0 <= interval[1]
    return Comparison(tuple(full), tuple(ablation), difference, interval, paper, paper if is_clear else "tied")


def welch_interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Return the confidence interval of mean(a) - mean(b) for samples of unequal variance (Welch's t-test).

    Each has at least two numbers. Without any variance it is the difference alone.
    """
    if np.var(a) == np.var(b) == 0:
        return (float(np.mean(a) - np.mean(b)),) * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one of them may be constant: every seed at the maximum
        interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Row:
    """An ablation over all tasks."""

    ablation: str
    compared: Mapping[str, Comparison]  # by task
    missing: Mapping[str, str]  # tasks that cannot be compared, and why

    def counts(self, rule: Rule) -> Counts:
        """Return the number of tasks with each verdict."""
        verdicts = [getattr(comparison, rule) for comparison in self.compared.values()]
        return Counts(*map(verdicts.count, Counts._fields))


@dataclass(frozen=True)
class Scores:
    """Final scores of one agent on one task."""

    values: tuple[float, ...]  # of the seeds that are done
    missing: str = ""  # what is missing, in words; empty if every seed is there


def tabulate(full: Mapping[str, Scores], ablations: Mapping[str, Mapping[str, Scores]]) -> list[Row]:
    """Compare every ablation with the full agent on every task where no seed is missing.

    Args:
        full: the full agent's scores by task.
        ablations: by ablation and task.
    """
    rows = []
    for name, scores in ablations.items():
        missing = {task: "; ".join(filter(None, (full[task].missing, scores[task].missing))) for task in full}
        compared = {task: compare(full[task].values, scores[task].values) for task in full if not missing[task]}
        rows.append(Row(name, compared, {task: why for task, why in missing.items() if why}))
    return rows
