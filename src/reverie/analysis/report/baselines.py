"""The published results: the paper's Table 1 and its recomputation from the authors' result files."""

from typing import Any

from reverie.analysis.published import AGGREGATES, BASELINES, VARIANTS, paper_table
from reverie.analysis.scores import aggregate, published_scores, scores_from_curves

NAMES = {"schedules": "DreamerV2 with schedules", "release": "DreamerV2, released code"} | {
    name: BASELINES[name] for name in ("iqn", "rainbow", "c51", "dqn")
}
METHOD = (
    "Over 55 games. Table 1 is the paper's. Recomputed from the result files: the score of a run is the mean of its "
    "scores from 190M frames on, that of a game the mean over runs. Difference: recomputed minus Table 1, whose two "
    "decimals leave differences below 0.005 open."
)
BY_ROWS = (
    "The rows of the mean curves give the same for the runs with schedules. In the release few runs have the last row "
    "of most games, so that means of rows are not means of runs, and differ a little."
)


def comparison() -> dict[str, dict[str, list[str]]]:
    """Return the paper's Table 1, the recomputation and their difference as text, by agent and by source."""
    found, lines = as_json(), {}
    for name in NAMES:
        paper, ours, difference = (
            [found[source][name][kind] for kind in AGGREGATES] for source in ("paper", "recomputed", "difference")
        )
        lines[name] = {
            "Table 1": [f"{value:.2f}" for value in paper],
            "recomputed": [f"{value:.3f}" for value in ours],
            "difference": [f"{round(value, 3) + 0.0:+.3f}" for value in difference],
        }
    return lines


def as_json() -> dict[str, Any]:
    """Return the paper's aggregates, those recomputed, their difference, and those of DreamerV2's mean curves."""
    paper, ours = paper_table(), {name: aggregate(published_scores(name))._asdict() for name in NAMES}
    return {
        "paper": {name: paper[name] for name in NAMES},
        "recomputed": ours,
        "difference": {name: {kind: ours[name][kind] - paper[name][kind] for kind in AGGREGATES} for name in NAMES},
        "from_rows_of_mean_curves": {name: aggregate(scores_from_curves(name))._asdict() for name in VARIANTS},
    }
