"""A combination lock that random play does not open: with and without exploration, over several seeds.

    python benchmarks/exploration.py --out results/exploration.jsonl
    python benchmarks/exploration.py --explore plan2explore --seeds 0

prints one JSON line a run: the score of the task's behavior, how often the lock was opened while collecting, the step
at which it first was, and the share of the pairs of position and digit that were tried, over the steps. `Lock` in
tests/helpers/environments.py has the rules: six digits of six choices, of which random play opens one in 46,656
episodes; each wrong digit ends the episode with 0.05, the open lock is worth 1.
"""

import argparse
import json
import sys
import tempfile
import time
from functools import partial
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
from tests.helpers.environments import Lock  # noqa: E402
from tests.helpers.learning_proof import SETTINGS  # noqa: E402

LOCK: dict[str, Any] = {
    **SETTINGS,
    "steps": 8_000,
    "prefill": 300,
    "pretrain": 50,
    "replay.batch_length": 10,
    "world_model.predict_discount": True,
    "world_model.discount": 0.99,
    "world_model.kl.scale": 0.3,
    "world_model.loss_scales.vector": 50.0,
    "world_model.loss_scales.reward": 10.0,
    "world_model.loss_scales.discount": 5.0,
    "behavior.horizon": 6,
    "behavior.actor.entropy": 1e-3,
    "exploration.head.units": 64,
    "exploration.head.layers": 2,
    "exploration.head.models": 5,
    "exploration.head.action": "next",
    "exploration.head.optimizer.lr": 1e-3,
    "exploration.reward_norm.momentum": 0.99,
    "exploration.intrinsic_scale": 0.1,
}


class Openings(reverie.Callback):
    """Notes when the lock was opened, and the coverage at each episode."""

    def __init__(self) -> None:
        self.opened_at: list[int] = []
        self.coverage: list[tuple[int, float]] = []
        self._steps = 0

    def on_episode(self, episode: Episode) -> None:
        """Note an episode."""
        self._steps += episode.length
        self.coverage.append((self._steps, float(episode.info["coverage"])))
        if episode.return_ == Lock.best_score:
            self.opened_at.append(self._steps)


def measure(explore: str, seed: int, **changes: Any) -> dict[str, Any]:
    """Train and evaluate one agent."""
    openings, started = Openings(), time.monotonic()
    factory = partial(Lock, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        settings = {**LOCK, "explore": explore, "seed": seed, **changes}
        agent = reverie.train(
            factory, "debug", logdir=Path(folder, "run"), callbacks=[openings], loggers=[], quiet=True, **settings
        )
        episodes = evaluate(agent, agent.config.env, 10, seed=99, factory=factory)
    marks = range(0, agent.agent_steps + 1, 500)
    steps, shares = (np.array(column) for column in zip(*openings.coverage, strict=True))
    return {
        "explore": explore,
        "seed": seed,
        "score": float(np.mean([each.return_ for each in episodes])),
        "opened": len(openings.opened_at),
        "first_opened": openings.opened_at[0] if openings.opened_at else None,
        "episodes": len(openings.coverage),
        "coverage": [[mark, round(float(shares[steps <= mark].max(initial=0)), 3)] for mark in marks],
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = ["plan2explore", "model-loss", "greedy", "random"]
    parser.add_argument("--explore", nargs="+", choices=choices, default=["plan2explore", "greedy"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=LOCK["steps"])
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
