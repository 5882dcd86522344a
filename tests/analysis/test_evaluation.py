"""Evaluations beside published scores."""

import statistics
from typing import Any

import pytest

from reverie.analysis.scores import cautions, protocol_line, with_published


def result(env: str = "ALE/Boxing-v5", returns: tuple[float, ...] = (4.1, 8.1), **protocol: Any) -> dict[str, Any]:
    mean = sum(returns) / len(returns)
    return {
        "env": env,
        "agent_steps": 250_000,
        "seed": 12,
        "protocol": {"sticky_actions": 0.25, "action_repeat": 4, "time_limit": 27_000, "seed": "given", **protocol},
        "mean": mean,
        "std": statistics.stdev(returns) if len(returns) > 1 else None,
        "episodes": [{"return": value, "length": 100} for value in returns],
    }


def test_an_atari_game() -> None:
    found = with_published(result())
    assert found["normalised"] == {
        "gamer": pytest.approx(0.5),
        "record": pytest.approx(6 / 99.9),
        "clipped_record": pytest.approx(6 / 99.9),
    }
    assert found["references"] == {"random": 0.1, "human_gamer": 12.1, "human_record": 100.0}
    assert protocol_line(found) == (
        "sticky actions p=0.25, mode actions, sampled latents, whole episodes (up to 27,000 steps), "
        "seed 12 (given), checkpoint of step 250,000"
    )
    assert cautions(found) == []


def test_other_protocols_are_pointed_out() -> None:
    found = with_published(result(returns=(1.0,) * 10, sticky_actions=0.0))
    assert cautions(found) == ["The published scores are of sticky actions p=0.25, these are of p=0."]


@pytest.mark.parametrize(
    ("env", "normalised"), [("CartPole-v1", {}), ("dm_control/walker-walk-v0", {"dmc": pytest.approx(0.0061)})]
)
def test_environments_without_published_scores(env: str, normalised: dict[str, float]) -> None:
    found = with_published(result(env, sticky_actions=None, time_limit=None))
    assert (found["normalised"], found["references"]) == (normalised, {})
    assert protocol_line(found).startswith("mode actions, sampled latents, whole episodes, seed 12")
