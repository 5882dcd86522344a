"""The table of ablations as text, Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reverie.analysis.ablations import ARTICLE, RULES, Counts, Row
from reverie.provenance import commit, reverie_version
from reverie.runs.atomic_io import atomic_path

HEADER = (
    "better / worse / tied", "here, paper's rule", "here, supported", "article, 55 games", "not comparable"
)  # fmt: skip
TASK_HEADER = ("task", "ablation", "seeds", "full", "score", "difference", "interval", "paper's rule", "supported")

FEW = 5
"""Seeds, below which the table says that they are few."""


def counts_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Cells below `HEADER`, a line for each ablation."""
    lines: list[tuple[str, ...]] = []
    for row in rows:
        article = _counts(ARTICLE[row.ablation]) if row.ablation in ARTICLE else "not reported"
        here = (_counts(row.counts("paper")), _counts(row.counts("supported")))
        lines.append((row.ablation, *here, article, str(len(row.missing))))
    return lines


def tasks_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Cells below `TASK_HEADER`, a line for each task and ablation that were compared."""
    lines = []
    for row in rows:
        for task, one in row.compared.items():
            interval = f"{one.interval[0]:+,.4g} to {one.interval[1]:+,.4g}" if one.interval else "one seed"
            seeds = str(len(one.full)) if len(one.full) == len(one.ablation) else f"{len(one.full)}/{len(one.ablation)}"
            means = [f"{_mean(values):,.4g}" for values in (one.full, one.ablation)]
            numbers = (seeds, *means, f"{one.difference:+,.4g}", interval)
            lines.append((task, row.ablation, *numbers, one.paper, one.supported))
    return sorted(lines, key=lambda line: line[0])


def notes(rows: Sequence[Row], facts: Mapping[str, Any]) -> list[str]:
    """Return what belongs under the table: the size of the experiment, both rules, and every task not compared."""
    tasks = len({task for row in rows for task in (*row.compared, *row.missing)})
    seeds = int(facts["seeds"])
    counted = f"{seeds} seed" if seeds == 1 else f"{seeds} seeds"
    lines = [f"Tasks: {tasks}, with {counted} of each agent: {facts['tasks']}. {facts['score']}", *RULES.values()]
    if seeds < FEW:
        lines.append(f"Few seeds ({seeds}): only large differences can be told from chance.")
    lines += [f"Not comparable: {row.ablation} on {task}: {why}" for row in rows for task, why in row.missing.items()]
    return lines


def markdown(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """A page."""
    parts = ["# Ablations", "", *_grid(HEADER, counts_table(rows)), ""]
    for note in notes(rows, facts):
        parts += [note, ""]
    return "\n".join([*parts, *_grid(TASK_HEADER, tasks_table(rows)), ""])


def as_json(rows: Sequence[Row], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything."""
    return {
        **facts,
        "rules": RULES,
        "reverie": reverie_version(),
        "commit": commit(),
        "ablations": {
            row.ablation: {
                "paper_rule": row.counts("paper")._asdict(),
                "supported": row.counts("supported")._asdict(),
                "article": ARTICLE[row.ablation]._asdict() if row.ablation in ARTICLE else None,
                "tasks": {task: asdict(one) for task, one in row.compared.items()},
                "not_comparable": dict(row.missing),
            }
            for row in rows
        },
    }


def as_csv(rows: Sequence[Row]) -> str:
    """One line for each task and ablation; those that were not compared have the reason in place of numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    numbers = (
        "full_seeds", "ablation_seeds", "full_mean", "ablation_mean", "difference", "interval_low", "interval_high"
    )  # fmt: skip
    writer.writerow(("ablation", "task", "paper_rule", "supported", *numbers, "reason"))
    for row in rows:
        for task, one in row.compared.items():
            low, high = one.interval or ("", "")
            values = (len(one.full), len(one.ablation), _mean(one.full), _mean(one.ablation), one.difference, low, high)
            writer.writerow((row.ablation, task, one.paper, one.supported, *values, ""))
        for task, why in row.missing.items():
            writer.writerow((row.ablation, task, *["not comparable"] * 2, *[""] * len(numbers), why))
    return out.getvalue()


def text(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """Both tables in plain characters, and the notes."""
    parts = [*_columns(HEADER, counts_table(rows)), "", *notes(rows, facts), ""]
    return "\n".join([*parts, *_columns(TASK_HEADER, tasks_table(rows)), ""])


def write(rows: Sequence[Row], facts: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `ablations.txt`, `.md`, `.csv` and `.json`.

    Raises:
        ReverieError: if a file cannot be written.
    """
    contents = {
        "txt": text(rows, facts),
        "md": markdown(rows, facts),
        "csv": as_csv(rows),
        "json": json.dumps(as_json(rows, facts), indent=2) + "\n",
    }
    paths = [folder / f"ablations.{ending}" for ending in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return paths


def _counts(counts: Counts) -> str:
    return " / ".join(map(str, counts))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rows = [header, ["---"] * len(header), *lines]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _columns(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in (header, *lines)) for index in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *lines)
    ]
