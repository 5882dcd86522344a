"""`reverie report`: compare runs with each other and with what was published, as a page."""

import json
from dataclasses import dataclass
from pathlib import Path

from reverie.cli.console import print_table, require, say


@dataclass(frozen=True)
class Report:
    """Compare runs: learning curves, scores beside published ones, and aggregates with intervals, as one page.

    Runs whose settings agree are seeds of one agent. What is missing, shorter or broken is named.
    """

    runs: tuple[Path, ...]
    """Folders of runs, or folders that hold some."""
    out: Path | None = None
    """Folder for the page, by default report, tables (CSV) and figures (SVG, PNG)."""
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

        from reverie.analysis.format import frames_text, interval_text, spread_text
        from reverie.analysis.report import report_runs
        from reverie.analysis.statistics import title_of

        report = report_runs(self.runs, self.out or Path("report"), self.frames)
        if self.json:
            print(json.dumps(report.json()))
            return
        scores = [
            (place.name, frames_text(place.frames), entry.agent, str(entry.n), spread_text(entry.mean, entry.std))
            for place in report.comparison.environments
            for entry in place.entries
        ]
        print_table(("environment", "frames", "agent", "n", "score"), scores)
        for one in report.statistics:
            aggregates = [
                (agent, str(len(one.matrix.scores[agent])), *(interval_text(*found[kind]) for kind in one.kinds))
                for agent, found in one.aggregates.items()
            ]
            print_table(("agent", "n", *map(title_of, one.kinds)), aggregates)
        for note in report.notes:
            say((f"{note.topic}: ", "yellow"), note.text)
        say(f"Wrote {report.page}, with {len(report.files) - 1} tables and figures beside it")


def _print_published(as_json: bool) -> None:
    from reverie.analysis.published import AGGREGATES
    from reverie.analysis.report import baselines

    if as_json:
        print(json.dumps(baselines.as_json()))
        return
    rows = []
    for name, sources in baselines.comparison().items():
        for index, (source, cells) in enumerate(sources.items()):
            rows.append(("" if index else baselines.NAMES[name], source, *cells))
    print_table(("agent", "source", *(kind.replace("_", " ") for kind in AGGREGATES)), rows)
    say(f"{baselines.METHOD}\n{baselines.BY_ROWS}")
