"""A report's numbers as rows for CSV and JSON."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from reverie.analysis.comparison import Comparison
from reverie.analysis.published import VARIANTS, curve
from reverie.analysis.report.figures import entry_curves
from reverie.analysis.report.notes import Note
from reverie.analysis.report.references import known_scores, published_at, published_end
from reverie.analysis.scores import normalised_scores
from reverie.analysis.statistics import Statistics

Rows = list[dict[str, Any]]


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
            **{
                f"dreamerv2_{variant}_{at}": score
                for variant in VARIANTS
                if curve(place.name, variant) is not None
                for at, score in (
                    ("at_same_frames", published_at(place.name, variant, place.frames)),
                    ("at_end", published_end(place.name, variant)),
                )
            },
        }
        for place in comparison.environments
        for entry in place.entries
    ]


def _normalised(environment: str, score: float) -> dict[str, float]:
    """Return columns such as `gamer_normalised`: `gamer` alone is a human's score. Empty without a score."""
    found = {} if math.isnan(score) else normalised_scores(environment, score)
    return {f"{kind}_normalised": value for kind, value in found.items()}


def curve_rows(comparison: Comparison) -> Rows:
    """Return a row for each point that is drawn, and for DreamerV2's published ones as far as the runs go."""
    rows: Rows = []
    for place in comparison.environments:
        for entry in place.entries:
            source, lines = entry_curves(entry)
            for run, line in zip(entry.runs, lines, strict=True):
                common = {"environment": place.name, "agent": entry.agent, "seed": run.seed, "of": source}
                points = zip(line.frames.tolist(), line.values.tolist(), strict=True)
                rows += [{**common, "frames": x, "return": y} for x, y in points]
        end = max(run.frames for run in place.runs)
        for variant in VARIANTS:
            if (known := curve(place.name, variant)) is not None:
                common = {"environment": place.name, "agent": f"DreamerV2 ({variant}), published", "seed": ""}
                common["of"] = "mean over seeds"
                means = zip(known.frames.tolist(), known.mean.tolist(), known.std.tolist(), strict=True)
                rows += [{**common, "frames": x, "return": y, "std": std} for x, y, std in means if x <= end]
    return rows


def aggregate_rows(found: Sequence[Statistics]) -> Rows:
    """Return a row for each aggregate of each agent, and for each probability of improvement."""
    rows: Rows = []
    for one in found:
        common = {"suite": one.matrix.suite, "environments": len(one.matrix.environments)}
        first = {agent: {**common, "agent": agent, "n": len(scores)} for agent, scores in one.matrix.scores.items()}
        for agent, estimates in one.aggregates.items():
            rows += [{**first[agent], "aggregate": kind, **value._asdict()} for kind, value in estimates.items()]
        for (agent, other), value in one.improvement.items():
            kind = {"aggregate": "probability_of_improvement", "over": other}
            rows.append({**first[agent], **kind, **value._asdict()})
    return rows


def as_json(comparison: Comparison, found: Sequence[Statistics], known: Iterable[Note]) -> dict[str, Any]:
    """Return every number of the page."""
    aggregates = {
        one.matrix.suite: {
            "environments": one.matrix.environments,
            "seeds": {agent: len(scores) for agent, scores in one.matrix.scores.items()},
            "without": one.matrix.without,
            "intervals": one.has_intervals,
            "agents": one.aggregates,
            "probability_of_improvement": [
                {"agent": first, "over": second, **estimate._asdict()}
                for (first, second), estimate in one.improvement.items()
            ],
        }
        for one in found
    }
    return {
        "agents": comparison.agents,
        "notes": list(known),
        "scores": score_rows(comparison),
        "runs": run_rows(comparison),
        "aggregates": aggregates,
    }
