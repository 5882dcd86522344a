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

from reverie.analysis.format import csv_text, plain, plural
from reverie.provenance import commit, reverie_version
from reverie.runs.atomic_io import atomic_path

Verdict = Literal["better", "worse", "tied"]

MARGIN = 0.05  # share of the larger mean up to which two results are tied
CONFIDENCE = 0.95
FEW = 5  # number of seeds below which the table calls them few
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
HEADER = (
    "better / worse / tied", "here, paper's rule", "here, supported", "article, 55 games", "not comparable"
)  # fmt: skip
TASK_HEADER = ("task", "ablation", "seeds", "full", "score", "difference", "interval", "paper's rule", "supported")
CSV_HEADER = (
    "ablation", "task", "paper_rule", "supported", "full_seeds", "ablation_seeds", "full_mean", "ablation_mean",
    "difference", "interval_low", "interval_high", "reason",
)  # fmt: skip


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


def tasks_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells under `TASK_HEADER`, a line for each task and ablation that were compared."""
    lines = []
    for row in rows:
        for task, one in row.compared.items():
            interval = f"{one.interval[0]:+,.4g} to {one.interval[1]:+,.4g}" if one.interval else "one seed"
            seeds = "/".join(map(str, dict.fromkeys((len(one.full), len(one.ablation)))))
            means = (f"{fmean(one.full):,.4g}", f"{fmean(one.ablation):,.4g}", f"{one.difference:+,.4g}")
            lines.append((task, row.ablation, seeds, *means, interval, one.paper, one.supported))
    return sorted(lines, key=lambda line: line[0])


def notes(rows: Sequence[Row], facts: Mapping[str, Any]) -> list[str]:
    """Return the size of the experiment, both rules, and every task that was not compared."""
    tasks = len({task for row in rows for task in (*row.compared, *row.missing)})
    seeds = int(facts["seeds"])
    few = [f"Few seeds ({seeds}): only large differences can be distinguished from chance."] if seeds < FEW else []
    return [
        f"Tasks: {tasks}, with {plural(seeds, 'seed')} of each agent: {facts['tasks']}. {facts['score']}",
        *RULES.values(),
        *few,
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
    versions = {"reverie": reverie_version(), "commit": commit()}
    return dict(plain({**facts, "rules": RULES, **versions, "ablations": ablations}))


def as_csv(rows: Sequence[Row]) -> str:
    """Return a line for each task and ablation; those that were not compared have the reason in place of numbers."""
    lines: list[tuple[Any, ...]] = []
    for row in rows:
        for task, one in row.compared.items():
            numbers = (len(one.full), len(one.ablation), fmean(one.full), fmean(one.ablation), one.difference)
            lines.append((row.ablation, task, one.paper, one.supported, *numbers, *(one.interval or ("", "")), ""))
        for task, why in row.missing.items():
            lines.append((row.ablation, task, *["not comparable"] * 2, *[""] * 7, why))
    return csv_text(CSV_HEADER, lines)


def write(rows: Sequence[Row], facts: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `ablations.txt`, `.md`, `.csv` and `.json`, and return their paths."""
    tables = [[HEADER, *counts_table(rows)], [TASK_HEADER, *tasks_table(rows)]]
    grids, columns = [], []
    for header, *lines in tables:
        grids.append("\n".join("| " + " | ".join(line) + " |" for line in (header, ("---",) * len(header), *lines)))
        widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
        columns.append("\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in (header, *lines)))
    said = notes(rows, facts)
    contents = {
        "txt": "\n\n".join([columns[0], "\n".join(said), columns[1]]) + "\n",
        "md": "\n\n".join(["# Ablations", grids[0], *said, grids[1]]) + "\n",
        "csv": as_csv(rows),
        "json": json.dumps(as_json(rows, facts), indent=2) + "\n",
    }
    paths = []
    for ending, content in contents.items():
        paths.append(folder / f"ablations.{ending}")
        with atomic_path(paths[-1]) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return paths
