"""An evaluation with the published scores of its environment, and its protocol in words."""

import math
from collections.abc import Mapping
from typing import Any

from reverie.analysis.published import STICKY_ACTIONS, game_scores
from reverie.analysis.scores import normalised_scores

FEW_EPISODES = 10  # number of episodes below which the mean of an evaluation says little
NAMES = {
    "gamer": "gamer-normalised",
    "record": "record-normalised",
    "clipped_record": "record-normalised, clipped at 1",
    "dmc": "of the largest possible return, 1000",
}


def with_references(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result of `evaluate_run` with its standard error, normalised scores and the published scores.

    `standard_error` is std / sqrt(n), None for a single episode; `normalised`, by kind, and `references` are empty for
    an environment without published scores.
    """
    episodes, game = len(result["episodes"]), game_scores(result["env"])
    return {
        **result,
        "standard_error": result["std"] / math.sqrt(episodes) if episodes > 1 else None,
        "normalised": normalised_scores(result["env"], result["mean"]),
        "references": {"random": game.random, "human_gamer": game.gamer, "human_record": game.record} if game else {},
    }


def protocol_line(result: Mapping[str, Any]) -> str:
    """Return how the episodes of an evaluation were played."""
    protocol = result["protocol"]
    sticky, limit = protocol["sticky_actions"], protocol["time_limit"]
    sticky_text = "" if sticky is None else f"sticky actions p={sticky:g}, "
    limit_text = f" (up to {limit:,} steps)" if limit else ""
    seed = f"seed {result['seed']} ({protocol['seed']}), checkpoint of step {result['agent_steps']:,}"
    return f"{sticky_text}mode actions, sampled latents, whole episodes{limit_text}, {seed}"


def cautions(result: Mapping[str, Any]) -> list[str]:
    """Return sentences that a reader of the numbers must know."""
    count, sticky, found = len(result["episodes"]), result["protocol"]["sticky_actions"], []
    if count < FEW_EPISODES:
        found.append(f"n = {count} is few: another seed may give another mean; --episodes plays more.")
    if result["references"] and sticky != STICKY_ACTIONS:
        found.append(f"The published scores are of sticky actions p={STICKY_ACTIONS:g}, these are of p={sticky:g}.")
    return found
