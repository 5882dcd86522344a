"""The page about the published results, and their aggregates."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from reverie.analysis.published import BASELINES, VARIANTS, atari_curves, atari_scores
from reverie.analysis.report import figures
from reverie.analysis.report.about_runs import slug
from reverie.analysis.report.markup import Column, Table, escape, figure, page, section
from reverie.analysis.report.references import HUMANS
from reverie.analysis.report.svg import inline_svg
from reverie.analysis.scores import Aggregates, aggregate, published_scores, scores_from_curves
from reverie.analysis.wording import score_text

PAPER: Mapping[str, tuple[float, float, float]] = {
    "schedules": (2.58, 0.434, 0.286),
    "release": (2.18, 0.440, 0.282),
    "rainbow": (1.47, 0.172, 0.172),
    "iqn": (1.29, 0.211, 0.209),
}
"""What was published: gamer median, record mean, clipped record mean."""
NAMES: Mapping[str, str] = {
    "schedules": "DreamerV2 with schedules",
    "release": "DreamerV2, released code",
} | {name: heading for name, heading in BASELINES.items()}
METHOD = "The score of a run is the mean of its scores from 190M frames on, that of a game the mean over runs."
BY_ROWS = (
    "The rows of the mean curves give the same for the runs with schedules. In the release few runs have the last row "
    "of most games, so that means of rows are not means of runs, and differ a little."
)


def published_aggregates() -> dict[str, Aggregates]:
    """Of DreamerV2 and the other published agents, over the 55 games that have scores."""
    return {name: aggregate(published_scores(name)) for name in NAMES}


def by_rows() -> dict[str, Aggregates]:
    """Of DreamerV2, from the rows of its mean curves in place of its runs."""
    return {variant: aggregate(scores_from_curves(variant)) for variant in VARIANTS}


def as_json() -> dict[str, Any]:
    """The aggregates, those of the paper, and those by rows; by agent and kind."""
    return {
        "published": {name: _plain(found) for name, found in published_aggregates().items()},
        "paper": {
            name: dict(zip(("gamer_median", "record_mean", "clipped_record_mean"), values, strict=True))
            for name, values in PAPER.items()
        },
        "from_rows_of_mean_curves": {name: _plain(found) for name, found in by_rows().items()},
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
            "<p>Mean and standard deviation over seeds.</p>",
            f'<div class="figures">\n{chr(10).join(parts)}\n</div>',
        ),
    ]
    return page("DreamerV2: the published results", lead, sections)


def _aggregates() -> Table:
    columns = [
        Column("agent", number=False), Column("games"), Column("gamer median", "recomputed"),
        Column("gamer mean", "recomputed"), Column("record mean", "recomputed"),
        Column("clipped record mean", "recomputed"), Column("gamer median", "paper"), Column("record mean", "paper"),
        Column("clipped record mean", "paper"),
    ]  # fmt: skip
    note = (
        "Scores normalised by random play and a human gamer, or the human world record; clipped: each game at most 1."
    )
    table = Table("published-aggregates", "Over 55 games", note, columns)
    for name, found in published_aggregates().items():
        table.rows.append([NAMES[name], *_cells(found), *paper_cells(name)])
    return table


def _rows() -> Table:
    columns = [
        Column("agent", number=False), Column("games"), Column("gamer median"),
        Column("gamer mean"), Column("record mean"), Column("clipped record mean"),
    ]  # fmt: skip
    table = Table("rows-of-curves", "From the mean curves instead of the runs", BY_ROWS, columns)
    table.rows = [[NAMES[name], *_cells(found)] for name, found in by_rows().items()]
    return table


def paper_cells(name: str) -> list[str]:
    """What the paper gives, or dashes."""
    if name not in PAPER:
        return ["–"] * 3
    median, record, clipped = PAPER[name]
    return [f"{median:.2f}", f"{record:.3f}", f"{clipped:.3f}"]


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


def _plain(found: Aggregates) -> dict[str, Any]:
    return {
        "games": found.games,
        "gamer_median": found.gamer_median,
        "gamer_mean": found.gamer_mean,
        "record_mean": found.record_mean,
        "clipped_record_mean": found.clipped_record_mean,
    }
