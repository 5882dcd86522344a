"""Make a report and write its files.

OUT/
    index.html      the page: everything in one file
    scores.csv      a row for each agent in each environment, beside published scores
    runs.csv        a row a run
    curves.csv      every point that is drawn
    aggregates.csv  over environments, with intervals
    figures/        each figure as SVG and PNG
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from reverie.analysis.comparison import Comparison, compare, matrix
from reverie.analysis.report import baseline_page, run_page
from reverie.analysis.report.files import aggregate_rows, as_json, curve_rows, plain, run_rows, score_rows, write_csv
from reverie.analysis.report.notes import Note, notes
from reverie.analysis.report.svg import save_figure
from reverie.analysis.runs import find_runs
from reverie.analysis.statistics import Statistics, statistics
from reverie.errors import ReverieError
from reverie.runs.atomic_io import replacing

PAGE = "index.html"


@dataclass(frozen=True)
class Report:
    """What was found and written."""

    comparison: Comparison
    statistics: Sequence[Statistics]
    notes: Sequence[Note]
    page: Path
    files: Sequence[Path]
    """All that were written, the page among them."""

    def json(self) -> dict[str, Any]:
        """The numbers, and where the page lies."""
        found: dict[str, Any] = plain(as_json(self.comparison, self.statistics, self.notes))
        return {**found, "page": str(self.page)}


def report_runs(paths: Iterable[Path], out: Path, frames: float | None = None) -> Report:
    """Compare runs, and write the page with its tables and figures.

    Args:
        paths: see `find_runs`.
        out: folder; it is created, and files of an earlier report are replaced.
        frames: at which scores are taken; None takes the most that the runs of an environment have in common.

    Raises:
        RunError: if there are no runs that can be read.
        ReverieError: if `out` cannot be written.
    """
    comparison = compare(*find_runs(paths), frames)
    matrices = (matrix(comparison, "atari"), matrix(comparison, "dmc"))
    found = [statistics(one) for one in matrices if one is not None]
    known = notes(comparison, found)
    drawn = run_page.draw(comparison, found)
    html = run_page.write_page(comparison, found, known, drawn)
    tables = {
        "scores.csv": score_rows(comparison),
        "runs.csv": run_rows(comparison),
        "curves.csv": curve_rows(comparison),
        "aggregates.csv": aggregate_rows(found),
    }
    files = _write(out, html, drawn, tables)
    return Report(comparison, found, known, files[0], files)


def report_published(out: Path) -> Path:
    """Write the page of the published results, with its figures.

    Returns:
        The page.

    Raises:
        ReverieError: if `out` cannot be written.
    """
    drawn = baseline_page.draw()
    return _write(out, baseline_page.write_page(drawn), drawn, {})[0]


def _write(
    out: Path, html: str, drawn: Mapping[str, Figure], tables: Mapping[str, Sequence[dict[str, Any]]]
) -> list[Path]:
    folder = out / "figures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(out / PAGE) as temporary:
            temporary.write_text(html, encoding="utf-8")
        written = [write_csv(out / name, rows) for name, rows in tables.items() if rows]
        figures = [save_figure(figure, folder, name) for name, figure in drawn.items()]
    except OSError as error:
        raise ReverieError(
            f"The report cannot be written to {out} ({error.strerror or error}); choose another --out."
        ) from error
    return [out / PAGE, *written, *itertools.chain.from_iterable(figures)]
