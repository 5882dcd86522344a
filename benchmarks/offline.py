"""Learning from recorded episodes alone, of an agent that was still learning when it recorded them.

    python benchmarks/offline.py --envs Catch CartPole --out results/offline.jsonl
    python benchmarks/offline.py --envs SpaceInvaders --seeds 0 --penalties 0 --out results/offline.jsonl

An agent learns online, with random play at first; its replay is the data. A new agent learns from that alone, with as
many updates, for each weight of the disagreement penalty. One JSON line each: mean return of the recorded episodes
(`behavior`), of their best tenth, and of 20 episodes with mode actions of the recording agent (`online`) and of the
new one (`offline`).
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from conditions import report

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import reverie  # noqa: E402
from reverie.training import evaluate  # noqa: E402
from tests.helpers.environments import Catch  # noqa: E402
from tests.helpers.learning_proof import SETTINGS  # noqa: E402

EPISODES = 20
HEAD = {f"exploration.head.{name}": value for name, value in (("layers", 2), ("units", 64), ("models", 5))}


class Task(NamedTuple):
    """An environment with the settings that learn it."""

    env: str | Callable[..., Any]
    preset: str
    settings: Mapping[str, Any]


TASKS = {
    "Catch": Task(Catch, "debug", {**SETTINGS, **HEAD}),
    "CartPole": Task("CartPole-v1", "vector", {**HEAD, "steps": 8_000}),
    "SpaceInvaders": Task(
        "MinAtar/SpaceInvaders-v1",
        "minatar",
        {
            **HEAD,
            "steps": 20_000,
            "train_every": 4,
            "replay.batch_size": 8,
            "behavior.actor.entropy": "linear(0.02,0.003,40000)",
            "behavior.critic.target_update_interval": 1,
            "behavior.critic.target_tau": 0.02,
        },
    ),
}


def learn(task: Task, folder: Path, seed: int, **more: Any) -> float:
    """Train an agent and return its mean return."""
    settings = {**task.settings, "seed": seed, "eval_every": 0, "video_every": 0, **more}
    agent = reverie.train(task.env, task.preset, logdir=folder, loggers=[], quiet=True, **settings)
    factory = None if isinstance(task.env, str) else task.env
    episodes = evaluate(agent, agent.config.env, EPISODES, seed=99, factory=factory)
    return float(np.mean([each.return_ for each in episodes]))


def recorded_returns(folder: Path) -> list[float]:
    """Return the returns of the episodes that a run has stored."""
    with reverie.ReplayBuffer(folder) as replay:
        return [float(episode["reward"].sum()) for episode in replay.episodes()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--penalties", nargs="+", type=float, default=[0.0, 10.0])
    parser.add_argument("--steps", type=int, help="agent steps of each run, where the task has others")
    parser.add_argument("--out", type=Path, help="file to which rows are added")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.envs:
        task = TASKS[name]
        if options.steps:
            task = task._replace(settings={**task.settings, "steps": options.steps})
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as parent:
                recording = Path(parent, "online")
                online = learn(task, recording, seed)
                returns = sorted(recorded_returns(recording))
                data = {
                    "episodes": len(returns),
                    "steps": task.settings["steps"],
                    "behavior": np.mean(returns),
                    "best_tenth": np.mean(returns[-max(1, len(returns) // 10) :]),
                }
                for penalty in options.penalties:
                    started = time.monotonic()
                    more = {"offline": recording, "behavior.disagreement_penalty": penalty}
                    offline = learn(task, Path(parent, f"offline-{penalty:g}"), seed + 100, **more)
                    row = {"env": name, "seed": seed, **data, "online": online, "penalty": penalty, "offline": offline}
                    row |= {"seconds": time.monotonic() - started}
                    row = {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}
                    report(row, options.out)


if __name__ == "__main__":
    main()
