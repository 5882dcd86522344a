"""Ablations compared with the full agent: scores in; verdicts, counts and tables out.

A task has two verdicts:

- by the paper's rule (section 3.2) two results within 5 % of each other are tied: |a - b| <= 0.05 max(|a|, |b|) for the
  means over seeds a and b of the final scores;
- a better or worse is supported if Welch's 95 % interval of a - b leaves out 0. One seed has no interval: tied.
"""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import stats

from reverie.analysis.format import plain, plural
from reverie.provenance import commit, reverie_version
from reverie.runs.atomic_io import atomic_write

Verdict = Literal["better", "worse", "tied"]

MARGIN = 0.05  # share of the larger mean up to which two results are tied
CONFIDENCE = 0.95
RULES = (
    f"Paper's rule (section 3.2): results within {MARGIN:.0%} of each other are tied, here if means differ by "
    f"at most {MARGIN:.0%} of the larger one. The article counted 55 Atari games at 200M frames.",
    f"Supported by the evidence: better or worse by the paper's rule, and Welch's {CONFIDENCE:.0%} interval of the "
    "difference leaves out 0; tied otherwise. One seed has no interval and supports neither.",
)
HEADER = ("better / worse / tied", "here, paper's rule", "here, supported", "article, 55 games", "not comparable")
TASK_HEADER = ("task", "ablation", "seeds", "full", "score", "difference", "interval", "paper's rule", "supported")


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


class Comparison(NamedTuple):
    """An ablation and the full agent on one task."""

    full: tuple[float, ...]  # final scores, one a seed
    ablation: tuple[float, ...]
    difference: float  # of the means; above 0 where the ablation is better
    interval: tuple[float, float] | None  # of the difference; None with one seed
    paper: Verdict
    supported: Verdict


class Scores(NamedTuple):
    """Final scores of one agent on one task."""

    values: tuple[float, ...]  # of the seeds that are done
    missing: str = ""  # what is missing, in words; empty if every seed is there


class Row(NamedTuple):
    """An ablation over all tasks."""

    ablation: str
    compared: Mapping[str, Comparison]  # by task
    missing: Mapping[str, str]  # tasks that cannot be compared, and why

    def counts(self, rule: Literal["paper", "supported"]) -> Counts:
        """Return the number of tasks with each verdict."""
        verdicts = [getattr(comparison, rule) for comparison in self.compared.values()]
        return Counts(*map(verdicts.count, Counts._fields))


def compare(full: Sequence[float], ablation: Sequence[float]) -> Comparison:
    """Compare final scores, one a seed, higher is better; raise ValueError unless each has some, all finite."""
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


def tabulate(full: Mapping[str, Scores], ablations: Mapping[str, Mapping[str, Scores]]) -> list[Row]:
    """Compare every ablation, by its name and task, with the full agent on every task where no seed is missing."""
    rows = []
    for name, scores in ablations.items():
        missing = {task: "; ".join(filter(None, (full[task].missing, scores[task].missing))) for task in full}
        compared = {task: compare(full[task].values, scores[task].values) for task in full if not missing[task]}
        rows.append(Row(name, compared, {task: why for task, why in missing.items() if why}))
    return rows


def counts_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells under `HEADER`, a line for each ablation."""
    lines = []
    for row in rows:
        counts = row.counts("paper"), row.counts("supported"), ARTICLE.get(row.ablation)
        texts = (" / ".join(map(str, one)) if one else "not reported" for one in counts)
        lines.append((row.ablation, *texts, str(len(row.missing))))
    return lines


def notes(rows: Sequence[Row], facts: Mapping[str, Any]) -> list[str]:
    """Return the size of the experiment, both rules, and every task that was not compared."""
    return [
        f"Tasks, with {plural(int(facts['seeds']), 'seed')} of each agent: {facts['tasks']}. {facts['score']}",
        *RULES,
        *(f"Not comparable: {row.ablation} on {task}: {why}" for row in rows for task, why in row.missing.items()),
    ]


def as_json(rows: Sequence[Row], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything."""
    ablations = {
        row.ablation: {
            "paper_rule": row.counts("paper"),
            "supported": row.counts("supported"),
            "article": ARTICLE.get(row.ablation),
            "tasks": row.compared,
            "not_comparable": row.missing,
        }
        for row in rows
    }
    return dict(plain({**facts, "reverie": reverie_version(), "commit": commit(), "ablations": ablations}))


def write(rows: Sequence[Row], facts: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `ablations.md` and `ablations.json`, and return their paths."""
    tasks = []
    for row in rows:
        for task, one in row.compared.items():
            interval = f"{one.interval[0]:+,.4g} to {one.interval[1]:+,.4g}" if one.interval else "one seed"
            seeds = "/".join(map(str, dict.fromkeys((len(one.full), len(one.ablation)))))
            means = (f"{fmean(one.full):,.4g}", f"{fmean(one.ablation):,.4g}", f"{one.difference:+,.4g}")
            tasks.append((task, row.ablation, seeds, *means, interval, one.paper, one.supported))
    tables = []
    for header, lines in ((HEADER, counts_table(rows)), (TASK_HEADER, sorted(tasks, key=lambda line: line[0]))):
        cells = (header, ["---"] * len(header), *lines)
        tables.append("\n".join("| " + " | ".join(line) + " |" for line in cells))
    contents = {
        "ablations.md": "\n\n".join(["# Ablations", tables[0], *notes(rows, facts), tables[1]]) + "\n",
        "ablations.json": json.dumps(as_json(rows, facts), indent=2) + "\n",
    }
    for name, content in contents.items():
        atomic_write(folder / name, content.encode())
    return [folder / name for name in contents]
