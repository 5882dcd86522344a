"""Ablations against the full agent: scores in, verdicts and counts out.

A task is better or worse only if all of this holds, and tied otherwise:

1. the means over seeds differ by more than `MARGIN` of the range, the larger of both means' distances from random play;
2. Welch's `CONFIDENCE` interval of the difference leaves out 0;
3. one of the means at least is above random play.

The first keeps differences that nobody cares about from counting, the second those that chance explains, the third
those between agents that have learned nothing. With one seed there is no interval, and the margin is
`MARGIN_ONE_SEED`. The article gives counts and no rule.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

Verdict = Literal["better", "worse", "tied"]

MARGIN = 0.05
"""Share of the range."""
MARGIN_ONE_SEED = 0.25
"""Seeds of one agent differ by more than `MARGIN` as a rule; by how much here, one seed cannot say."""
CONFIDENCE = 0.95

RULE = (
    "Rule: an ablation is better or worse on a task if the mean over seeds of its final score differs from that of the "
    f"full agent by more than {MARGIN:.0%} of the range (the larger of both means' distances from random play), if "
    f"Welch's {CONFIDENCE:.0%} interval of the difference leaves out 0, and if one of both at least is above random "
    f"play; otherwise they are tied. With one seed there is no interval, and the difference must be more than "
    f"{MARGIN_ONE_SEED:.0%} of the range. The article gives its counts, over 55 Atari games at 200M frames, without a "
    "rule for ties."
)


class Counts(NamedTuple):
    """Tasks on which an ablation is better than the full agent, worse, or tied with it."""

    better: int
    worse: int
    tied: int

    @property
    def total(self) -> int:
        """Tasks that were compared."""
        return sum(self)


ARTICLE: Mapping[str, Counts] = {
    "gaussian-latents": Counts(8, 42, 5),
    "no-kl-balancing": Counts(6, 44, 5),
    "no-image-gradients": Counts(3, 51, 1),
    "no-reward-gradients": Counts(15, 22, 18),
    "reinforce-only": Counts(18, 24, 13),
    "straight-through-only": Counts(5, 44, 6),
}
"""The article's counts by ablation, over 55 Atari games."""


@dataclass(frozen=True)
class Comparison:
    """An ablation and the full agent on one task."""

    full: tuple[float, ...]
    """Final scores, one a seed."""
    ablation: tuple[float, ...]
    difference: float
    """Of the means; above 0 where the ablation is better."""
    margin: float
    """What it must exceed."""
    interval: tuple[float, float] | None
    """Of the difference; None with one seed."""
    verdict: Verdict


def compare(full: Sequence[float], ablation: Sequence[float], random: float | None = None) -> Comparison:
    """Compare final scores.

    Args:
        full: of the full agent, one a seed; higher is better.
        ablation: of the ablation.
        random: score of random play; where it is not known, 0 takes its place in the range, and condition 3 holds.

    Raises:
        ValueError: if one of them has no scores, or one that is not finite.
    """
    if not full or not ablation or not all(map(math.isfinite, (*full, *ablation, random or 0.0))):
        raise ValueError(f"Cannot compare {ablation} with {full}: every score must be a finite number.")
    means = float(np.mean(ablation)), float(np.mean(full))
    difference = means[0] - means[1]
    spread = max(abs(mean - (random or 0.0)) for mean in means)
    learned = random is None or max(means) > random
    interval = welch_interval(ablation, full) if min(len(full), len(ablation)) > 1 else None
    margin = (MARGIN if interval else MARGIN_ONE_SEED) * spread
    clear = interval is None or not interval[0] <= 0 <= interval[1]
    verdict: Verdict = "tied"
    if learned and clear and abs(difference) > margin:
        verdict = "better" if difference > 0 else "worse"
    return Comparison(tuple(full), tuple(ablation), difference, margin, interval, verdict)


def welch_interval(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Confidence interval of mean(a) - mean(b) for samples of unequal variance (Welch's t-test).

    Without any variance it is the difference alone.

    Args:
        a: at least two numbers.
        b: at least two numbers.
        confidence: between 0 and 1.
    """
    if np.var(a) == np.var(b) == 0:
        difference = float(np.mean(a) - np.mean(b))
        return difference, difference
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one of them may be constant: every seed at the maximum
        interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Row:
    """An ablation over all tasks."""

    ablation: str
    compared: Mapping[str, Comparison]
    """By task."""
    missing: Mapping[str, str]
    """Tasks that cannot be compared, and why."""

    @property
    def counts(self) -> Counts:
        """Verdicts over the tasks that were compared."""
        verdicts = [comparison.verdict for comparison in self.compared.values()]
        return Counts(verdicts.count("better"), verdicts.count("worse"), verdicts.count("tied"))


@dataclass(frozen=True)
class Scores:
    """Of one agent on one task."""

    values: tuple[float, ...]
    """Final scores of the seeds that are done."""
    missing: str = ""
    """What is missing, in words; empty if every seed is there."""


def tabulate(
    full: Mapping[str, Scores], ablations: Mapping[str, Mapping[str, Scores]], random: Mapping[str, float]
) -> list[Row]:
    """Compare every ablation with the full agent on every task. What misses a seed is not compared.

    Args:
        full: the full agent's scores by task.
        ablations: by ablation and task.
        random: scores of random play, of the tasks where they are known.
    """
    rows = []
    for name, scores in ablations.items():
        compared: dict[str, Comparison] = {}
        missing: dict[str, str] = {}
        for task, reference in full.items():
            gap = "; ".join(filter(None, (reference.missing, scores[task].missing)))
            if gap:
                missing[task] = gap
            else:
                compared[task] = compare(reference.values, scores[task].values, random.get(task))
        rows.append(Row(name, compared, missing))
    return rows
