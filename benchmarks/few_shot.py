"""Tasks that nobody had in mind while exploring: three variants of Catch, zero-shot, few-shot and from scratch.

    python benchmarks/few_shot.py --out results/few_shot.jsonl

An agent explores Catch without rewards. For each task, to be where the ball arrives, anywhere else, or at the mirrored
place, `zero_shot` learns from what it stored, with rewards of a function of the pictures, and steps in no environment;
`few_shot` starts with its world model and takes some steps with rewards; `scratch` takes as many without it. Scores are
means of 20 episodes with mode actions; the best is 10, that of random play -6, 6 and -6.
"""

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conditions import report
from gymnasium import Env, Wrapper

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import reverie  # noqa: E402
from reverie.training import evaluate  # noqa: E402
from tests.helpers.environments import Catch  # noqa: E402
from tests.helpers.learning_proof import SETTINGS  # noqa: E402

TASKS = ("catch", "avoid", "mirror")
EXPLORING = {"explore": "plan2explore", "exploration.head.action": "next", "exploration.reward_norm.momentum": 0.99}
EXPLORING |= {f"exploration.head.{name}": value for name, value in (("layers", 2), ("units", 64), ("models", 5))}
EXPLORING |= {"exploration.intrinsic_scale": 0.1}
COLUMNS = [slice(2 + 12 * column, 14 + 12 * column) for column in range(Catch.columns)]


def reward_of(task: str, image: Any) -> float:
    """Return the reward of a task in what a picture [64, 64, 1] shows."""
    bottom = image[52:62, :, 0].max(0)
    cells = [int(bottom[column].max()) for column in COLUMNS]
    if Catch.ball_brightness not in cells:
        return 0.0
    ball = cells.index(Catch.ball_brightness)
    paddle = cells.index(Catch.paddle_brightness) if Catch.paddle_brightness in cells else ball
    goal = Catch.columns - 1 - ball if task == "mirror" else ball
    return 1.0 if (paddle == goal) is not (task == "avoid") else -1.0


class Variant(Wrapper[Any, Any, Any, Any]):
    """Catch with the rewards of a task, or without any."""

    def __init__(self, task: str | None) -> None:
        super().__init__(Catch())
        self.task = task

    def step(self, action: Any) -> Any:
        """Take a step."""
        image, _, *ends = self.env.step(action)
        return image, 0.0 if self.task is None else reward_of(self.task, image), *ends


def make(task: str | None) -> Env[Any, Any]:
    """Create a variant."""
    return Variant(task)


def relabel(task: str, episode: Any) -> Any:
    """Return the rewards of a task in a recorded episode; see `reverie.train`."""
    rewards = [reward_of(task, image) for image in episode["image"]]
    return np.where(episode["is_first"], 0, rewards)


def learn(task: str | None, folder: Path, **settings: Any) -> float:
    """Train an agent; return its mean return in a task."""
    factory = partial(make, task)
    agent = reverie.train(factory, "debug", logdir=folder, loggers=[], quiet=True, **{**SETTINGS, **settings})
    return float(np.mean([each.return_ for each in evaluate(agent, agent.config.env, 20, seed=99, factory=factory)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--steps", type=int, default=600, help="steps with rewards, half of them random")
    parser.add_argument("--exploring", type=int, default=5_000, help="steps of exploration")
    parser.add_argument("--out", type=Path, help="file to which rows are added")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as parent:
            explored = Path(parent, "explored")
            learn(None, explored, seed=seed, steps=options.exploring, **EXPLORING)
            known: dict[str, Any] = {"init": explored, "keep": "model", "fresh": ("reward",)}
            few = {"steps": options.steps, "prefill": options.steps // 2, "train_every": 1, "pretrain": 300}
            for task in options.tasks:
                started, folder = time.monotonic(), Path(parent, task)
                data = {"offline": explored, "relabel": partial(relabel, task), "steps": 4_000}
                row = {
                    "task": task,
                    "seed": seed,
                    "zero_shot": learn(task, folder / "zero-shot", seed=seed, **known, **data),
                    "few_shot": learn(task, folder / "few-shot", seed=seed, **known, **few),
                    "scratch": learn(task, folder / "scratch", seed=seed, **few),
                    "steps": options.steps,
                    "explored_steps": options.exploring,
                    "seconds": round(time.monotonic() - started, 1),
                }
                report(row, options.out)


if __name__ == "__main__":
    main()
