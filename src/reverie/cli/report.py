"""`reverie report`: compare runs with each other and with what was published, as a page."""

import json
from dataclasses import dataclass
from pathlib import Path

from reverie.cli.console import print_table, require, say

TABLE_1 = (
    "Over 55 games. Paper: its Table 1. Recomputed from the result files: the score of a run is the mean of its scores "
    "from 190M frames on, that of a game the mean over runs."
)


@dataclass(frozen=True)
class Report:
    """Compare runs: learning curves, scores beside published ones, and aggregates with intervals, as one page.

    Runs whose settings agree are seeds of one agent. What is missing, shorter or broken is named.
    """

    runs: tuple[Path, ...]
    """Folders of runs, or folders that hold some."""
    out: Path | None = None
    """Folder for the page, by default report, and its numbers (JSON)."""
    frames: float | None = None
    """Environment frames at which scores are taken; None takes the most that the runs have in common."""
    published: bool = False
    """Instead of runs: the published results, the paper's Table 1 and its recomputation."""
    json: bool = False
    """Print one JSON object on the last line, instead of tables."""

    def __call__(self) -> None:
        if self.published:
            require(not self.out, "--published prints a table and writes no files; leave --out away.")
            require(not self.runs, "--published takes no runs: their report has the published results anyway.")
            _print_published(self.json)
            return
        require(self.runs, "Say what to compare: reverie report RUN..., or reverie report --published.")
        require(self.frames is None or self.frames > 0, f"--frames is {self.frames}, but it must be above 0.")

        from reverie.analysis.format import frames_text, interval_text, score_text
        from reverie.analysis.report import report_runs
        from reverie.analysis.statistics import KINDS

        report = report_runs(self.runs, self.out or Path("report"), self.frames)
        if self.json:
            print(json.dumps(report.json()))
            return
        scores = []
        for entry in report.comparison.entries:
            interval = " to ".join(map(score_text, entry.interval)) if entry.n > 1 else "one seed" if entry.n else "–"
            texts = (str(entry.n), score_text(entry.mean), score_text(entry.std), interval)
            scores.append((entry.environment, frames_text(entry.frames), entry.agent, *texts))
        print_table(("environment", "frames", "agent", "n", "mean", "s.d.", "95 % interval (Student t)"), scores)
        for one in report.statistics:
            aggregates = [
                (agent, str(len(one.scores[agent])), *(interval_text(*found[kind]) for kind in one.kinds))
                for agent, found in one.aggregates.items()
            ]
            print_table(("agent", "n", *(KINDS[kind] for kind in one.kinds)), aggregates)
        for note in report.notes:
            say((f"{note.topic}: ", "yellow"), note.text)
        say(f"Wrote {report.page} and {report.data}")


def _print_published(as_json: bool) -> None:
    from reverie.analysis.published import AGGREGATES, BASELINES
    from reverie.analysis.scores import table_1

    found = table_1()
    if as_json:
        print(json.dumps(found))
        return
    names = {"schedules": "DreamerV2 with schedules", "release": "DreamerV2, released code", **BASELINES}
    styles = {"paper": ".2f", "recomputed": ".3f", "difference": "+.3f"}
    rows = [
        (names[agent], source, *(format(round(found[source][agent][kind], 3) + 0.0, style) for kind in AGGREGATES))
        for agent in found["paper"]
        for source, style in styles.items()
    ]
    print_table(("agent", "source", *(kind.replace("_", " ") for kind in AGGREGATES)), rows)
    say(TABLE_1)
