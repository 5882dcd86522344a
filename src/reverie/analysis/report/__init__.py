"""Reports about runs: one self-contained page, and its numbers as JSON."""

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from reverie.analysis.comparison import Comparison, Entry, compare
from reverie.analysis.format import plain
from reverie.analysis.published import VARIANTS
from reverie.analysis.report.notes import Note, notes
from reverie.analysis.report.page import write_page
from reverie.analysis.runs import find_runs
from reverie.analysis.scores import normalised_scores, references
from reverie.analysis.statistics import SuiteScores, suite_scores
from reverie.runs.atomic_io import atomic_write


class Report(NamedTuple):
    """The numbers of a report, and its files."""

    comparison: Comparison
    statistics: Sequence[SuiteScores]
    notes: Sequence[Note]
    page: Path  # `index.html`
    data: Path  # `report.json`

    def json(self) -> dict[str, Any]:
        """Return every number of the page, and its path."""
        aggregates = {
            one.suite: {
                "environments": one.environments,
                "seeds": {agent: len(scores) for agent, scores in one.scores.items()},
                "agents": one.aggregates,
            }
            for one in self.statistics
        }
        rows, comparison = map(_rows, self.comparison.entries), self.comparison
        scores, runs = zip(*rows, strict=True)
        found = {"agents": comparison.agents, "notes": self.notes, "scores": scores, "runs": list(chain(*runs))}
        return dict(plain({**found, "aggregates": aggregates, "page": str(self.page)}))


def report_runs(paths: Iterable[Path], out: Path, frames: float | None = None) -> Report:
    """Compare runs (see `find_runs`, `compare`), and write `index.html` and `report.json` into a folder.

    Raises:
        RunError: if there are no runs that can be read.
        ReverieError: if `out` cannot be written.
    """
    comparison, found, known = _compared(paths, frames)
    report = Report(comparison, found, known, out / "index.html", out / "report.json")
    atomic_write(report.page, write_page(comparison, found, known).encode())
    atomic_write(report.data, (json.dumps(report.json(), indent=2) + "\n").encode())
    return report


def report_page(paths: Iterable[Path], frames: float | None = None) -> str:
    """Return the page of `report_runs` as HTML, and write nothing."""
    return write_page(*_compared(paths, frames))


def _compared(paths: Iterable[Path], frames: float | None) -> tuple[Comparison, list[SuiteScores], list[Note]]:
    comparison = compare(*find_runs(paths), frames)
    found = [one for one in (suite_scores(comparison, "atari"), suite_scores(comparison, "dmc")) if one is not None]
    return comparison, found, list(notes(comparison, found))


def _rows(entry: Entry) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the numbers of an agent in an environment, and those of each of its runs."""
    same = {"environment": entry.environment, "agent": entry.agent}
    runs = [
        {
            **same,
            "seed": run.seed,
            "status": run.status,
            "frames_reached": run.frames,
            "frames_planned": run.frames_planned,
            "counted": run in entry.counted,
            "score": score.value if (score := entry.scores.get(run.seed)) else None,
            "score_of": score.source if score else None,
            "path": str(run.path),
        }
        for run in entry.runs
    ]
    scores = {
        **same,
        "frames": entry.frames,
        "n": entry.n,
        "seeds": list(entry.scores),
        "mean": entry.mean,
        "std": entry.std,
        "interval": entry.interval if entry.n > 1 else "one seed",
        "interval_method": "Student t, 95 %",
        "normalised": normalised_scores(entry.environment, entry.mean),
        "references": references(entry.environment, entry.frames, VARIANTS),
    }
    return scores, runs
