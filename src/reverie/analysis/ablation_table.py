"""The table of ablations as text, Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from reverie.analysis.ablations import ARTICLE, RULES, Counts, Row
from reverie.provenance import commit, reverie_version
from reverie.runs.atomic_io import atomic_path

HEADER = (
    "better / worse / tied", "here, paper's rule", "here, supported", "article, 55 games", "not comparable"
)  # fmt: skip
TASK_HEADER = ("task", "ablation", "seeds", "full", "score", "difference", "interval", "paper's rule", "supported")
CSV_HEADER = (
    "ablation", "task", "paper_rule", "supported", "full_seeds", "ablation_seeds", "full_mean", "ablation_mean",
    "difference", "interval_low", "interval_high", "reason",
)  # fmt: skip

FEW = 5  # number of seeds below which the table calls them few

Facts = Mapping[str, Any]
Lines = list[tuple[str, ...]]


def counts_table(rows: Sequence[Row]) -> Lines:
    """Return the cells under `HEADER`, a line for each ablation."""

    def text(counts: Counts | None) -> str:
        return " / ".join(map(str, counts)) if counts else "not reported"

    counts = [(row.counts("paper"), row.counts("supported"), ARTICLE.get(row.ablation)) for row in rows]
    return [(row.ablation, *map(text, three), str(len(row.missing))) for row, three in zip(rows, counts, strict=True)]


def tasks_table(rows: Sequence[Row]) -> Lines:
    """Return the cells under `TASK_HEADER`, a line for each task and ablation that were compared."""
    lines = []
    for row in rows:
        for task, one in row.compared.items():
            interval = f"{one.interval[0]:+,.4g} to {one.interval[1]:+,.4g}" if one.interval else "one seed"
            seeds = "/".join(map(str, dict.fromkeys((len(one.full), len(one.ablation)))))
            means = (f"{fmean(one.full):,.4g}", f"{fmean(one.ablation):,.4g}", f"{one.difference:+,.4g}")
            lines.append((task, row.ablation, seeds, *means, interval, one.paper, one.supported))
    return sorted(lines, key=lambda line: line[0])


def notes(rows: Sequence[Row], facts: Facts) -> list[str]:
    """Return the size of the experiment, both rules, and every task that was not compared."""
    tasks = len({task for row in rows for task in (*row.compared, *row.missing)})
    seeds = int(facts["seeds"])
    counted = f"{seeds} seed" if seeds == 1 else f"{seeds} seeds"
    few = [f"Few seeds ({seeds}): only large differences can be distinguished from chance."] if seeds < FEW else []
    return [
        f"Tasks: {tasks}, with {counted} of each agent: {facts['tasks']}. {facts['score']}",
        *RULES.values(),
        *few,
        *(f"Not comparable: {row.ablation} on {task}: {why}" for row in rows for task, why in row.missing.items()),
    ]


def markdown(rows: Sequence[Row], facts: Facts) -> str:
    """Return both tables and the notes as Markdown."""

    def grid(header: tuple[str, ...], lines: Lines) -> str:
        return "\n".join("| " + " | ".join(row) + " |" for row in (header, ("---",) * len(header), *lines))

    tables = grid(HEADER, counts_table(rows)), grid(TASK_HEADER, tasks_table(rows))
    return "\n\n".join(["# Ablations", tables[0], *notes(rows, facts), tables[1]]) + "\n"


def text(rows: Sequence[Row], facts: Facts) -> str:
    """Return both tables and the notes in plain characters."""

    def columns(header: tuple[str, ...], lines: Lines) -> str:
        widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
        padded = (map(str.ljust, row, widths) for row in (header, *lines))
        return "\n".join("  ".join(row).rstrip() for row in padded)

    tables = columns(HEADER, counts_table(rows)), columns(TASK_HEADER, tasks_table(rows))
    return "\n\n".join([tables[0], "\n".join(notes(rows, facts)), tables[1]]) + "\n"


def as_json(rows: Sequence[Row], facts: Facts) -> dict[str, Any]:
    """Return everything."""
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
    """Return a line for each task and ablation; those that were not compared have the reason in place of numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for row in rows:
        for task, one in row.compared.items():
            numbers = (len(one.full), len(one.ablation), fmean(one.full), fmean(one.ablation), one.difference)
            writer.writerow((row.ablation, task, one.paper, one.supported, *numbers, *(one.interval or ("", "")), ""))
        for task, why in row.missing.items():
            writer.writerow((row.ablation, task, *["not comparable"] * 2, *[""] * 7, why))
    return out.getvalue()


def write(rows: Sequence[Row], facts: Facts, folder: Path) -> list[Path]:
    """Write `ablations.txt`, `.md`, `.csv` and `.json`.

    Raises:
        ReverieError: if a file cannot be written.
    """
    contents = {
        folder / "ablations.txt": text(rows, facts),
        folder / "ablations.md": markdown(rows, facts),
        folder / "ablations.csv": as_csv(rows),
        folder / "ablations.json": json.dumps(as_json(rows, facts), indent=2) + "\n",
    }
    for path, content in contents.items():
        with atomic_path(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return list(contents)
