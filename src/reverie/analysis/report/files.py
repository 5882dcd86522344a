"""A report's numbers as CSV and JSON."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from reverie.analysis.comparison import Comparison, Entry
from reverie.analysis.published import VARIANTS, curve
from reverie.analysis.report.figures import entry_curves
from reverie.analysis.report.notes import Note
from reverie.analysis.report.references import known_scores, published_at, published_end
from reverie.analysis.scores import normalised_scores
from reverie.analysis.statistics import Statistics
from reverie.runs.atomic_io import atomic_path


def write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows under the keys of all of them; nan and None become empty cells."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: value for name, value in plain(row).items()} for row in rows)
    return path


def plain(value: Any) -> Any:
    """For JSON: numbers that are not finite become None, in whatever holds them."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A row a run."""
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


def score_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A row for each agent in each environment, with what is published beside it."""
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


def curve_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A row for each point that is drawn, and for DreamerV2's published ones as far as the runs go."""
    rows: list[dict[str, Any]] = []
    for place in comparison.environments:
        end = max(run.frames for entry in place.entries for run in entry.runs)
        for entry in place.entries:
            rows += _entry_rows(entry)
        for variant in VARIANTS:
            line = curve(place.name, variant)
            if line is None:
                continue
            inside = line.frames <= end
            points = zip(
                line.frames[inside].tolist(), line.mean[inside].tolist(), line.std[inside].tolist(), strict=True
            )
            rows += [
                {
                    "environment": place.name,
                    "agent": f"DreamerV2 ({variant}), published",
                    "seed": "",
                    "of": "mean over seeds",
                    "frames": frames,
                    "return": mean,
                    "std": std,
                }
                for frames, mean, std in points
            ]
    return rows


def as_json(comparison: Comparison, found: Sequence[Statistics], known: Sequence[Note]) -> dict[str, Any]:
    """Everything that the page says in numbers."""
    return {
        "agents": list(comparison.agents),
        "notes": [note._asdict() for note in known],
        "scores": score_rows(comparison),
        "runs": run_rows(comparison),
        "aggregates": {one.matrix.suite: _statistics(one) for one in found},
    }


def aggregate_rows(found: Sequence[Statistics]) -> list[dict[str, Any]]:
    """A row for each aggregate of each agent, and for each probability of improvement."""
    rows: list[dict[str, Any]] = []
    for one in found:
        common = {"suite": one.matrix.suite, "environments": len(one.matrix.environments)}
        for agent, estimates in one.aggregates.items():
            n = len(one.matrix.scores[agent])
            rows += [
                {**common, "agent": agent, "n": n, "aggregate": kind, **estimate._asdict()}
                for kind, estimate in estimates.items()
            ]
        rows += [
            {
                **common,
                "agent": first,
                "n": len(one.matrix.scores[first]),
                "aggregate": "probability_of_improvement",
                "over": second,
                **estimate._asdict(),
            }
            for (first, second), estimate in one.improvement.items()
        ]
    return rows


def _statistics(one: Statistics) -> dict[str, Any]:
    return {
        "environments": list(one.matrix.environments),
        "seeds": {agent: len(scores) for agent, scores in one.matrix.scores.items()},
        "without": list(one.matrix.without),
        "intervals": one.intervals,
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
    """By columns of their own: `gamer` alone is what a human scored. Empty without a score."""
    found = {} if math.isnan(score) else normalised_scores(environment, score)
    return {f"{kind}_normalised": value for kind, value in found.items()}


def _dreamerv2(environment: str, frames: float) -> dict[str, float]:
    found = {}
    for variant in VARIANTS:
        if curve(environment, variant) is not None:
            found[f"dreamerv2_{variant}_at_same_frames"] = published_at(environment, variant, frames)
            found[f"dreamerv2_{variant}_at_end"] = published_end(environment, variant)
    return found


def _entry_rows(entry: Entry) -> list[dict[str, Any]]:
    source, lines = entry_curves(entry)
    return [
        {
            "environment": entry.environment,
            "agent": entry.agent,
            "seed": run.seed,
            "of": source,
            "frames": frames,
            "return": value,
        }
        for run, line in zip(entry.runs, lines, strict=True)
        for frames, value in zip(line.frames.tolist(), line.values.tolist(), strict=True)
    ]
