"""A river whose source random play does not reach: with and without exploration, over several seeds.

    python benchmarks/exploration.py --out results/exploration.jsonl
    python benchmarks/exploration.py --explore plan2explore --seeds 0

prints one JSON line a run: the score of the task's behavior, how often the source was reached while collecting, the
step at which it first was, and the share of the places that were reached, over the steps. `River` in
tests/helpers/environments.py has the rules: 20 places against a current, of which random play reaches the last one in
one of 38,000 episodes of 30 steps; staying at the mouth gives 0.3, the source 1.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conditions import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import reverie  # noqa: E402
from reverie.collectors.collector import Episode  # noqa: E402
from reverie.training import evaluate  # noqa: E402
from tests.helpers.environments import River  # noqa: E402
from tests.helpers.learning_proof import SETTINGS  # noqa: E402

RIVER: dict[str, Any] = {
    **SETTINGS,
    "steps": 6_000,
    "prefill": 300,
    "pretrain": 50,
    "replay.batch_length": 12,
    "world_model.predict_discount": True,
    "world_model.discount": 0.99,
    "world_model.kl.scale": 0.3,
    "world_model.loss_scales.vector": 50.0,
    "world_model.loss_scales.reward": 10.0,
    "world_model.loss_scales.discount": 5.0,
    "behavior.horizon": 8,
    "behavior.actor.entropy": 1e-3,
    "exploration.head.units": 64,
    "exploration.head.layers": 2,
    "exploration.head.models": 5,
    "exploration.head.action": "next",
    "exploration.head.optimizer.lr": 1e-3,
    "exploration.reward_norm.momentum": 0.99,
    "exploration.intrinsic_scale": 0.1,
}


class Arrivals(reverie.Callback):
    """Notes when the source was reached, and the coverage at each episode."""

    def __init__(self) -> None:
        self.reached_at: list[int] = []
        self.coverage: list[tuple[int, float]] = []
        self._steps = 0

    def on_episode(self, episode: Episode) -> None:
        """Note an episode."""
        self._steps += episode.length
        self.coverage.append((self._steps, float(episode.info["coverage"])))
        if episode.return_ >= 1:
            self.reached_at.append(self._steps)


def measure(explore: str, seed: int, **changes: Any) -> dict[str, Any]:
    """Train and evaluate one agent."""
    arrivals, started = Arrivals(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        settings = {**RIVER, "explore": explore, "seed": seed, **changes}
        agent = reverie.train(
            River, "debug", logdir=Path(folder, "run"), callbacks=[arrivals], loggers=[], quiet=True, **settings
        )
        episodes = evaluate(agent, agent.config.env, 10, seed=99, factory=River)
    marks = range(0, agent.agent_steps + 1, 500)
    steps, shares = (np.array(column) for column in zip(*arrivals.coverage, strict=True))
    return {
        "explore": explore,
        "seed": seed,
        "score": float(np.mean([each.return_ for each in episodes])),
        "arrivals": len(arrivals.reached_at),
        "first_arrival": arrivals.reached_at[0] if arrivals.reached_at else None,
        "episodes": len(arrivals.coverage),
        "coverage": [[mark, round(float(shares[steps <= mark].max(initial=0)), 3)] for mark in marks],
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = ["plan2explore", "model-loss", "greedy", "random"]
    parser.add_argument("--explore", nargs="+", choices=choices, default=["plan2explore", "greedy"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=RIVER["steps"])
    parser.add_argument("--out", type=Path, help="file to which rows are added")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds:
        for explore in options.explore:
            row = {**measure(explore, seed, steps=options.steps), **machine()}
            print(json.dumps(row), flush=True)
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
