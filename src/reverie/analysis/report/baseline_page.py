"""The page about the published results, and their aggregates."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from matplotlib.figure import Figure

from reverie.analysis.format import score_text
from reverie.analysis.published import AGGREGATES, BASELINES, VARIANTS, atari_curves, atari_scores, paper_table
from reverie.analysis.report import figures
from reverie.analysis.report.markup import Column, Span, Table, escape, figure, page, section
from reverie.analysis.report.references import HUMANS
from reverie.analysis.report.run_page import slug
from reverie.analysis.report.svg import inline_svg
from reverie.analysis.scores import Aggregates, aggregate, published_scores, scores_from_curves

NAMES: Mapping[str, str] = {
    "schedules": "DreamerV2 with schedules",
    "release": "DreamerV2, released code",
} | {name: BASELINES[name] for name in ("iqn", "rainbow", "c51", "dqn")}
METHOD = (
    "Over 55 games. Table 1 is the paper's. Recomputed from the result files: the score of a run is the mean of its "
    "scores from 190M frames on, that of a game the mean over runs. Difference: recomputed minus Table 1, whose two "
    "decimals leave differences below 0.005 open."
)
BY_ROWS = (
    "The rows of the mean curves give the same for the runs with schedules. In the release few runs have the last row "
    "of most games, so that means of rows are not means of runs, and differ a little."
)


def recomputed() -> dict[str, Aggregates]:
    """Return the aggregates of DreamerV2 and the other published agents over the 55 games that have scores."""
    return {name: aggregate(published_scores(name)) for name in NAMES}


def comparison() -> dict[str, dict[str, list[str]]]:
    """Return the paper's Table 1, the recomputation and their difference as text, by agent and by source."""
    lines = {}
    for name, found in recomputed().items():
        paper = [paper_table()[name][kind] for kind in AGGREGATES]
        ours = [getattr(found, kind) for kind in AGGREGATES]
        lines[name] = {
            "Table 1": [f"{value:.2f}" for value in paper],
            "recomputed": [f"{value:.3f}" for value in ours],
            "difference": [f"{round(a - b, 3) + 0.0:+.3f}" for a, b in zip(ours, paper, strict=True)],
        }
    return lines


def by_rows() -> dict[str, Aggregates]:
    """Of DreamerV2, from the rows of its mean curves in place of its runs."""
    return {variant: aggregate(scores_from_curves(variant)) for variant in VARIANTS}


def as_json() -> dict[str, Any]:
    """Return the paper's aggregates, those recomputed, their difference, and those by rows; by agent and kind."""
    ours = {name: asdict(found) for name, found in recomputed().items()}
    return {
        "paper": {name: dict(paper_table()[name]) for name in NAMES},
        "recomputed": ours,
        "difference": {
            name: {kind: ours[name][kind] - paper_table()[name][kind] for kind in AGGREGATES} for name in NAMES
        },
        "from_rows_of_mean_curves": {name: asdict(found) for name, found in by_rows().items()},
    }


def draw() -> dict[str, Figure]:
    """The published curves, by the name of their files."""
    return {
        f"published-{slug(game)}": figures.published_curves(_id(game), VARIANTS) for game in atari_curves("release")
    }


def write_page(drawn: Mapping[str, Figure]) -> str:
    """The page as HTML."""
    parts = []
    for game in atari_curves("release"):
        name = f"published-{slug(game)}"
        seen = [f"{variant} {score_text(atari_scores()[game].dreamerv2[variant])}" for variant in VARIANTS]
        description = f"Published learning curves in {_title(game)}; final scores: {', '.join(seen)}."
        caption = f"Final score: {'; '.join(seen)}."
        parts.append(figure(inline_svg(drawn[name], name, description), _title(game), escape(caption)))
    lead = (
        "<p>Atari with sticky actions, 200M frames. From the result files of the authors' release (commit 07d906e) and "
        "the tables that it cites.</p>"
    )
    sections = [
        section("aggregates", "Aggregates", f"<p>{METHOD}</p>", _aggregates().html(), _rows().html()),
        section("final", "Final scores", _scores().html()),
        section(
            "curves",
            "Learning curves",
            "<p>Mean and sample standard deviation over seeds.</p>",
            f'<div class="figures">\n{chr(10).join(parts)}\n</div>',
        ),
    ]
    return page("DreamerV2: the published results", lead, sections)


def _aggregates() -> Table:
    columns = [Column("agent", number=False), Column("source", number=False)]
    columns += [Column(kind.replace("_", " ")) for kind in AGGREGATES]
    note = (
        "Scores normalised by random play and a human gamer, or the human world record; clipped: each game at most 1."
    )
    table = Table("published-aggregates", "Over 55 games", note, columns)
    for name, sources in comparison().items():
        for index, (source, cells) in enumerate(sources.items()):
            table.rows.append([None if index else Span(NAMES[name], len(sources)), source, *cells])
    return table


def _rows() -> Table:
    columns = [
        Column("agent", number=False), Column("games"), Column("gamer median"),
        Column("gamer mean"), Column("record mean"), Column("clipped record mean"),
    ]  # fmt: skip
    table = Table("rows-of-curves", "From the mean curves instead of the runs", BY_ROWS, columns)
    table.rows = [[NAMES[name], *_cells(found)] for name, found in by_rows().items()]
    return table


def _cells(found: Aggregates) -> list[str]:
    return [
        str(found.games), f"{found.gamer_median:.2f}", f"{found.gamer_mean:.2f}", f"{found.record_mean:.3f}",
        f"{found.clipped_record_mean:.3f}",
    ]  # fmt: skip


def _scores() -> Table:
    columns = [Column("game", number=False)]
    columns += [Column(heading, "humans") for heading in HUMANS.values()]
    columns += [Column(heading, "agents, 200M frames") for heading in BASELINES.values()]
    for variant in VARIANTS:
        columns += [Column(variant, "DreamerV2"), Column("seeds", "DreamerV2")]
    table = Table("published-scores", "By game", "– means that nothing was published.", columns)
    for name, game in atari_scores().items():
        cells = [score_text(value) for value in (game.random, game.gamer, game.record, *game.baselines.values())]
        for variant in VARIANTS:
            cells += [score_text(game.dreamerv2[variant]), str(game.seeds[variant] or "–")]
        table.rows.append([_title(name), *cells])
    return table


def _title(game: str) -> str:
    return game.replace("_", " ").title()


def _id(game: str) -> str:
    """An environment's id that stands for the game."""
    return f"ALE/{game.replace('_', '')}-v5"
