"""Goals that random play does not reach: with and without exploration, over several seeds.

    python benchmarks/exploration.py --out results/exploration.jsonl
    python benchmarks/exploration.py --explore plan2explore --seeds 0
    python benchmarks/exploration.py --env rooms --steps 12000 --seeds 0 --out results/exploration.jsonl
    python benchmarks/exploration.py --plot results/exploration.jsonl docs/images/exploration.png

prints one JSON line a run: the score of the task's behavior, how often the goal was reached while collecting, the
step at which it first was, and the share of the places that were reached, over the steps. `--explore uniform` plays at
random, without an agent. `River` in tests/helpers/environments.py has the rules of the river: 20 places against a
current, of which random play reaches the last one in one of 38,000 episodes of 30 steps; staying at the mouth gives
0.3, the source 1. `Rooms`, from pixels, are MiniGrid's: two with a closed door between them, always the same, and a
goal in the second one, ten steps away.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from conditions import report

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


ROOMS: dict[str, Any] = {
    "replay.batch_size": 6,
    "replay.batch_length": 20,
    "train_every": 2,
    "prefill": 1_000,
    "eval_every": 0,
    "video_every": 0,
    "behavior.actor.entropy": 5e-3,
    "behavior.imagine_last": 6,
    "exploration.head.models": 5,
    "exploration.head.action": "next",
    "exploration.reward_norm.momentum": 0.99,
    "exploration.intrinsic_scale": 0.1,
    "world_model.loss_scales.reward": 10.0,
}


class Rooms(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Two of MiniGrid's rooms as pictures of what the agent sees; the `info` has the share of reached places."""

    def __init__(self) -> None:
        from minigrid.envs.multiroom import MultiRoomEnv
        from minigrid.wrappers import ImgObsWrapper, ReseedWrapper, RGBImgPartialObsWrapper

        rooms = MultiRoomEnv(2, 2, maxRoomSize=5)
        super().__init__(ImgObsWrapper(RGBImgPartialObsWrapper(ReseedWrapper(rooms, seeds=(1,)))))
        self._reached: set[tuple[int, ...]] = set()

    def step(self, action: Any) -> Any:
        """Take a step."""
        observation, reward, *ends, info = self.env.step(action)
        rooms: Any = self.unwrapped
        self._reached.add(tuple(rooms.agent_pos))
        doors = len(rooms.rooms) - 1
        places = sum((room.size[0] - 2) * (room.size[1] - 2) for room in rooms.rooms) + doors
        return observation, reward, *ends, {**info, "coverage": len(self._reached) / places}


ENVS: dict[str, tuple[type[gymnasium.Env[Any, Any]], str, dict[str, Any]]] = {
    "river": (River, "debug", RIVER),
    "rooms": (Rooms, "minatar", ROOMS),
}


class Arrivals(reverie.Callback):
    """Notes when the goal was reached, and the coverage at each episode."""

    def __init__(self, bar: float) -> None:
        self._bar = bar
        self.reached_at: list[int] = []
        self.coverage: list[tuple[int, float]] = []
        self._steps = 0

    def on_episode(self, episode: Episode) -> None:
        """Note an episode of training."""
        self.add(episode.length, episode.return_, episode.info)

    def add(self, length: int, return_: float, info: Any) -> None:
        """Note an episode."""
        self._steps += length
        self.coverage.append((self._steps, float(info["coverage"])))
        if return_ > self._bar:
            self.reached_at.append(self._steps)


def play(env: type[gymnasium.Env[Any, Any]], arrivals: Arrivals, seed: int, steps: int) -> float:
    """Play at random, without an agent, and return the mean return of an episode."""
    made, rng, taken, returns = env(), np.random.default_rng(seed), 0, []
    while taken < steps:
        made.reset(seed=seed)
        rewards, ended = [], False
        while not ended:
            _, reward, terminated, truncated, info = made.step(rng.integers(made.action_space.n))
            rewards.append(float(reward))
            ended = terminated or truncated
        taken += len(rewards)
        returns.append(sum(rewards))
        arrivals.add(len(rewards), returns[-1], info)
    return float(np.mean(returns))


def measure(name: str, explore: str, seed: int, **changes: Any) -> dict[str, Any]:
    """Train and evaluate one agent."""
    env, preset, settings = ENVS[name]
    arrivals, started = Arrivals(0.5 if name == "river" else 0.0), time.monotonic()
    if explore == "uniform":
        score = play(env, arrivals, seed, changes["steps"])
    else:
        with tempfile.TemporaryDirectory() as folder:
            settings = {**settings, "explore": explore, "seed": seed, **changes}
            agent = reverie.train(
                env, preset, logdir=Path(folder, "run"), callbacks=[arrivals], loggers=[], quiet=True, **settings
            )
            episodes = evaluate(agent, agent.config.env, 10, seed=99, factory=env)
        score = float(np.mean([each.return_ for each in episodes]))
    marks = range(0, changes["steps"] + 1, 500)
    steps, shares = (np.array(column) for column in zip(*arrivals.coverage, strict=True))
    return {
        "env": name,
        "explore": explore,
        "seed": seed,
        "score": score,
        "arrivals": len(arrivals.reached_at),
        "first_arrival": arrivals.reached_at[0] if arrivals.reached_at else None,
        "episodes": len(arrivals.coverage),
        "coverage": [[mark, round(float(shares[steps <= mark].max(initial=0)), 3)] for mark in marks],
        "seconds": round(time.monotonic() - started, 1),
    }


def plot(rows: Path, picture: Path) -> None:
    """Draw the coverage over the steps: a panel for each environment, a line for each run."""
    import matplotlib.pyplot as plt

    runs = [json.loads(line) for line in rows.read_text().splitlines()]
    figure, panels = plt.subplots(1, len(ENVS), figsize=(9, 3.2), sharey=True, layout="constrained")
    colors = {
        "plan2explore": "#0072B2",
        "greedy": "#D55E00",
        "model-loss": "#009E73",
        "random": "#7f7f7f",
        "uniform": "#7f7f7f",
    }
    for env, panel in zip(ENVS, panels, strict=True):
        labelled: set[str] = set()
        for run in runs:
            if run.get("env", "river") == env:
                steps, shares = zip(*run["coverage"], strict=True)
                label = None if run["explore"] in labelled else run["explore"]
                panel.plot(steps, shares, color=colors[run["explore"]], label=label)
                labelled.add(run["explore"])
        panel.set(title=env.capitalize(), xlabel="Steps", xlim=(0, 6_000), ylim=(0, 1.05))
        panel.legend(loc="lower right", frameon=False)
    panels[0].set_ylabel("Share of places reached")
    figure.savefig(picture, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = ["plan2explore", "model-loss", "greedy", "random", "uniform"]
    parser.add_argument("--env", choices=list(ENVS), default="river")
    parser.add_argument("--explore", nargs="+", choices=choices, default=["plan2explore", "greedy"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=RIVER["steps"])
    parser.add_argument(
        "--plot", nargs=2, type=Path, metavar=("ROWS", "PNG"), help="draw stored rows, and train nothing"
    )
    parser.add_argument("--out", type=Path, help="file to which rows are added")
    options = parser.parse_args()
    if options.plot:
        plot(*options.plot)
        return
    torch.set_num_threads(1)
    for seed in options.seeds:
        for explore in options.explore:
            report(measure(options.env, explore, seed, steps=options.steps), options.out)


if __name__ == "__main__":
    main()
