"""A report's numbers as rows for CSV and JSON."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from reverie.analysis.comparison import Comparison, Entry
from reverie.analysis.format import plain
from reverie.analysis.published import VARIANTS, curve
from reverie.analysis.report.figures import entry_curves
from reverie.analysis.report.notes import Note
from reverie.analysis.report.references import known_scores, published_at, published_end
from reverie.analysis.scores import normalised_scores
from reverie.analysis.statistics import Statistics
from reverie.runs.atomic_io import atomic_path

Rows = list[dict[str, Any]]


def write_csv(path: Path, rows: Rows) -> Path:
    """Write rows under the keys of all of them; nan and None become empty cells."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain(rows))
    return path


def run_rows(comparison: Comparison) -> Rows:
    """Return a row for each run."""
    return [
        {
            "environment": run.environment,
            "agent": entry.agent,
            "seed": run.seed,
            "status": run.status,
            "frames_reached": run.frames,
            "frames_planned": run.frames_planned,
            "frames_compared": place.frames,
            "counted": run in entry.counted,
            "score": score.value if (score := entry.scores.get(run.seed)) else math.nan,
            "score_of": score.source if score else "",
            **_normalised(run.environment, score.value if score else math.nan),
            "path": str(run.path),
        }
        for place in comparison.environments
        for entry in place.entries
        for run in entry.runs
    ]


def score_rows(comparison: Comparison) -> Rows:
    """Return a row for each agent in each environment, with the published scores of that environment."""
    return [
        {
            "environment": place.name,
            "frames": place.frames,
            "agent": entry.agent,
            "n": entry.n,
            "seeds": " ".join(map(str, entry.scores)),
            "mean": entry.mean,
            "std": entry.std,
            "min": float(entry.values.min()) if entry.n else math.nan,
            "max": float(entry.values.max()) if entry.n else math.nan,
            **_normalised(place.name, entry.mean),
            **{name.lower(): score for name, score in known_scores(place.name).items()},
            **_dreamerv2(place.name, place.frames),
        }
        for place in comparison.environments
        for entry in place.entries
    ]


def curve_rows(comparison: Comparison) -> Rows:
    """Return a row for each point that is drawn, and for DreamerV2's published ones as far as the runs go."""
    rows: Rows = []
    for place in comparison.environments:
        for entry in place.entries:
            rows += _entry_rows(entry)
        end = max(run.frames for entry in place.entries for run in entry.runs)
        for variant in VARIANTS:
            line = curve(place.name, variant)
            if line is not None:
                common = {"environment": place.name, "agent": f"DreamerV2 ({variant}), published", "seed": ""}
                common["of"] = "mean over seeds"
                points = zip(line.frames.tolist(), line.mean.tolist(), line.std.tolist(), strict=True)
                rows += [{**common, "frames": x, "return": y, "std": std} for x, y, std in points if x <= end]
    return rows


def aggregate_rows(found: Sequence[Statistics]) -> Rows:
    """Return a row for each aggregate of each agent, and for each probability of improvement."""
    rows: Rows = []
    for one in found:

        def row(agent: str, one: Statistics = one, **values: Any) -> dict[str, Any]:
            common = {"suite": one.matrix.suite, "environments": len(one.matrix.environments)}
            return {**common, "agent": agent, "n": len(one.matrix.scores[agent]), **values}

        for agent, estimates in one.aggregates.items():
            rows += [row(agent, aggregate=kind, **estimate._asdict()) for kind, estimate in estimates.items()]
        for (agent, other), estimate in one.improvement.items():
            rows.append(row(agent, aggregate="probability_of_improvement", over=other, **estimate._asdict()))
    return rows


def as_json(comparison: Comparison, found: Sequence[Statistics], known: Iterable[Note]) -> dict[str, Any]:
    """Return every number of the page."""
    return {
        "agents": list(comparison.agents),
        "notes": [note._asdict() for note in known],
        "scores": score_rows(comparison),
        "runs": run_rows(comparison),
        "aggregates": {one.matrix.suite: _statistics(one) for one in found},
    }


def _statistics(one: Statistics) -> dict[str, Any]:
    return {
        "environments": list(one.matrix.environments),
        "seeds": {agent: len(scores) for agent, scores in one.matrix.scores.items()},
        "without": list(one.matrix.without),
        "intervals": one.has_intervals,
        "agents": {
            agent: {kind: estimate._asdict() for kind, estimate in estimates.items()}
            for agent, estimates in one.aggregates.items()
        },
        "probability_of_improvement": [
            {"agent": first, "over": second, **estimate._asdict()}
            for (first, second), estimate in one.improvement.items()
        ],
    }


def _normalised(environment: str, score: float) -> dict[str, float]:
    """Return columns such as `gamer_normalised`: `gamer` alone is a human's score. Empty without a score."""
    found = {} if math.isnan(score) else normalised_scores(environment, score)
    return {f"{kind}_normalised": value for kind, value in found.items()}


def _dreamerv2(environment: str, frames: float) -> dict[str, float]:
    found = {}
    for variant in VARIANTS:
        if curve(environment, variant) is not None:
            found[f"dreamerv2_{variant}_at_same_frames"] = published_at(environment, variant, frames)
            found[f"dreamerv2_{variant}_at_end"] = published_end(environment, variant)
    return found


def _entry_rows(entry: Entry) -> Rows:
    source, lines = entry_curves(entry)
    return [
        {
            "environment": entry.environment,
            "agent": entry.agent,
            "seed": run.seed,
            "of": source,
            "frames": x,
            "return": y,
        }
        for run, line in zip(entry.runs, lines, strict=True)
        for x, y in zip(line.frames.tolist(), line.values.tolist(), strict=True)
    ]
