"""The page about the published results, and their aggregates."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from matplotlib.figure import Figure

from reverie.analysis.format import score_text
from reverie.analysis.published import AGGREGATES, BASELINES, VARIANTS, atari_curves, atari_scores, paper_table
from reverie.analysis.report import figures
from reverie.analysis.report.page import inline_svg, render, slug
from reverie.analysis.report.references import HUMANS
from reverie.analysis.report.run_page import Drawn
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
    """Return the aggregates of DreamerV2 from the rows of its mean curves instead of its runs."""
    return {variant: aggregate(scores_from_curves(variant)) for variant in VARIANTS}


def as_json() -> dict[str, Any]:
    """Return the paper's aggregates, those recomputed, their difference, and those by rows; by agent and kind."""
    paper, ours = paper_table(), {name: asdict(found) for name, found in recomputed().items()}
    return {
        "paper": {name: dict(paper[name]) for name in NAMES},
        "recomputed": ours,
        "difference": {name: {kind: ours[name][kind] - paper[name][kind] for kind in AGGREGATES} for name in NAMES},
        "from_rows_of_mean_curves": {name: asdict(found) for name, found in by_rows().items()},
    }


def draw() -> dict[str, Figure]:
    """Return the published curves, by the name of their files."""
    return {
        f"published-{slug(game)}": figures.published_curves(f"ALE/{game.replace('_', '')}-v5", VARIANTS)
        for game in atari_curves("release")
    }


def write_page(drawn: Mapping[str, Figure]) -> str:
    """Return the page as HTML."""
    columns = [(heading, "n", "humans") for heading in HUMANS]
    columns += [(heading, "n", "agents, 200M frames") for heading in BASELINES.values()]
    columns += [(heading, "n", "DreamerV2") for variant in VARIANTS for heading in (variant, "seeds")]
    return render(
        "baselines.html",
        title="DreamerV2: the published results",
        method=METHOD,
        names=NAMES,
        aggregate_columns=[(kind.replace("_", " "), "n", "") for kind in AGGREGATES],
        comparison=comparison(),
        by_rows_note=BY_ROWS,
        by_rows={name: _aggregate_cells(found) for name, found in by_rows().items()},
        score_columns=columns,
        scores={game: _score_cells(game) for game in atari_scores()},
        curves={game: _drawn(game, drawn) for game in atari_curves("release")},
    )


def _aggregate_cells(found: Aggregates) -> list[str]:
    gamer = [f"{value:.2f}" for value in (found.gamer_median, found.gamer_mean)]
    return [str(found.games), *gamer, f"{found.record_mean:.3f}", f"{found.clipped_record_mean:.3f}"]


def _score_cells(name: str) -> list[str]:
    game = atari_scores()[name]
    cells = [score_text(value) for value in (game.random, game.gamer, game.record, *game.baselines.values())]
    for variant in VARIANTS:
        cells += [score_text(game.dreamerv2[variant]), str(game.seeds[variant] or "–")]
    return cells


def _drawn(game: str, drawn: Mapping[str, Figure]) -> Drawn:
    name, title = f"published-{slug(game)}", game.replace("_", " ").title()
    scores = [f"{variant} {score_text(atari_scores()[game].dreamerv2[variant])}" for variant in VARIANTS]
    description = f"Published learning curves in {title}; final scores: {', '.join(scores)}."
    return Drawn(inline_svg(drawn[name], name, description), title, f"Final score: {'; '.join(scores)}.")
