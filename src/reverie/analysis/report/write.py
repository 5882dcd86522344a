"""Make a report and write its files.

OUT/
    index.html      the page: everything in one file
    scores.csv      a row for each agent in each environment, with published scores
    runs.csv        a row for each run
    curves.csv      every point that is drawn
    aggregates.csv  over environments, with intervals
    figures/        each figure as SVG and PNG
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reverie.analysis.charts import save_figure
from reverie.analysis.comparison import Comparison, compare, matrix
from reverie.analysis.format import csv_text, plain
from reverie.analysis.report.notes import Note, notes
from reverie.analysis.report.page import draw, write_page
from reverie.analysis.report.rows import aggregate_rows, as_json, curve_rows, run_rows, score_rows
from reverie.analysis.runs import find_runs
from reverie.analysis.statistics import Statistics, statistics
from reverie.errors import ReverieError
from reverie.runs.atomic_io import atomic_path

DPI = 200


class Report(NamedTuple):
    """The numbers of a report, and its files."""

    comparison: Comparison
    statistics: Sequence[Statistics]
    notes: Sequence[Note]
    files: Sequence[Path]  # all that were written, the page first

    @property
    def page(self) -> Path:
        """Path of the page."""
        return self.files[0]

    def json(self) -> dict[str, Any]:
        """Return the numbers, and the path of the page."""
        found: dict[str, Any] = plain(as_json(self.comparison, self.statistics, self.notes))
        return {**found, "page": str(self.page)}


def report_runs(paths: Iterable[Path], out: Path, frames: float | None = None) -> Report:
    """Compare runs (see `find_runs`, `compare`), and write the page with its tables and figures into a folder.

    Raises:
        RunError: if there are no runs that can be read.
        ReverieError: if `out` cannot be written.
    """
    comparison = compare(*find_runs(paths), frames)
    matrices = (matrix(comparison, "atari"), matrix(comparison, "dmc"))
    found = [statistics(one) for one in matrices if one is not None]
    known = notes(comparison, found)
    drawn = draw(comparison, found)
    texts = {out / "index.html": write_page(comparison, found, known, drawn)}
    tables = {"scores": score_rows(comparison), "runs": run_rows(comparison), "curves": curve_rows(comparison)}
    for name, rows in {**tables, "aggregates": aggregate_rows(found)}.items():
        if rows:
            header = list(dict.fromkeys(key for row in rows for key in row))
            texts[out / f"{name}.csv"] = csv_text(header, ([row.get(key) for key in header] for row in rows))
    files = list(texts)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        for name, figure in drawn.items():
            files += [save_figure(figure, out / "figures" / f"{name}.{ending}", DPI) for ending in ("svg", "png")]
    except OSError as error:
        reason = error.strerror or error
        raise ReverieError(f"The report cannot be written to {out} ({reason}); choose another --out.") from error
    return Report(comparison, found, known, files)
