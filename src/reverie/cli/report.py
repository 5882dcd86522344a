"""`reverie report`: compare runs with each other and with what was published, as a page."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from reverie.cli.console import UsageError, console

OUT = Path("report")


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
        if self.published and self.out:
            raise UsageError("--published prints a table and writes no files; leave --out away.")
        if self.published and self.runs:
            raise UsageError("--published takes no runs: their report has the published results beside them anyway.")
        if not self.published and not self.runs:
            raise UsageError("Say what to compare: reverie report RUN..., or reverie report --published.")
        if self.frames is not None and not self.frames > 0:
            raise UsageError(f"--frames is {self.frames:g}, but it must be above 0.")
        if self.published:
            self._published()
        else:
            self._runs()

    def _runs(self) -> None:
        from reverie.analysis.report import report_runs

        report = report_runs(self.runs, self.out or OUT, self.frames)
        if self.json:
            print(json.dumps(report.json()))
            return
        out = console()
        out.print(_scores(report))
        for one in report.statistics:
            out.print(_aggregates(one))
        for note in report.notes:
            out.print(Text.assemble((f"{note.topic}: ", "yellow"), note.text))
        out.print(f"Wrote {report.page}, with {len(report.files) - 1} tables and figures beside it", markup=False)

    def _published(self) -> None:
        from reverie.analysis.published import AGGREGATES
        from reverie.analysis.report import baselines

        if self.json:
            print(json.dumps(baselines.as_json()))
            return
        table = Table("agent", "source", *(kind.replace("_", " ") for kind in AGGREGATES))
        for name, sources in baselines.comparison().items():
            for index, (source, cells) in enumerate(sources.items()):
                named = "" if index else baselines.NAMES[name]
                table.add_row(named, source, *cells, end_section=source == "difference")
        out = console()
        out.print(table)
        out.print(baselines.METHOD)
        out.print(baselines.BY_ROWS)


def _scores(report: Any) -> Table:
    from reverie.analysis.format import frames_text, spread_text

    table = Table("environment", "frames", "agent", "n", "score")
    for place in report.comparison.environments:
        for entry in place.entries:
            name, frames = Text(place.name), frames_text(place.frames)
            table.add_row(name, frames, Text(entry.agent), str(entry.n), spread_text(entry.mean, entry.std))
    return table


def _aggregates(one: Any) -> Table:
    from reverie.analysis.format import interval_text
    from reverie.analysis.statistics import title_of

    kinds = one.kinds
    table = Table("agent", "n", *map(title_of, kinds))
    for agent, estimates in one.aggregates.items():
        cells = [Text(interval_text(*estimates[kind])) for kind in kinds]
        table.add_row(Text(agent), str(len(one.matrix.scores[agent])), *cells)
    return table
