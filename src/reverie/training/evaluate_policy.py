"""Scores of a trained agent, its policy or its run."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reverie.agents import load
from reverie.config import EnvConfig
from reverie.dreamer import Dreamer
from reverie.envs import EnvFactory, choose_env, make_gym_env
from reverie.envs.catalog import is_atari
from reverie.errors import EnvError, ReverieError
from reverie.policy import Policy
from reverie.training.collectors import Episode
from reverie.training.evaluation import evaluate, evaluation_seed, report_to_standard_error
from reverie.training.play import FPS, play_episodes, render_frame, video_writer
from reverie.training.watchdog import EpisodeWatch

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of whole episodes, and how they were played."""

    returns: NDArray[np.float64]
    """Sums of raw rewards [n]."""
    lengths: NDArray[np.int64]
    """Agent steps [n]."""
    env: str
    agent_steps: int
    """Steps for which the agent was trained."""
    seed: int
    """Seed of environments and samples."""
    protocol: dict[str, Any]
    """Settings of environment and actions."""

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float | None:
        """Standard deviation of the returns, divided by n - 1; None for one episode."""
        return float(self.returns.std(ddof=1)) if len(self.returns) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Interval of the mean at 95 % confidence by Student's t; None for one episode."""
        count = len(self.returns)
        if self.std is None:
            return None
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * self.std / count**0.5
        return self.mean - half, self.mean + half

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        episodes = zip(self.returns.tolist(), self.lengths.tolist(), strict=True)
        return {
            "env": self.env,
            "agent_steps": self.agent_steps,
            "seed": self.seed,
            "protocol": self.protocol,
            "mean": self.mean,
            "std": self.std,
            "interval": None if self.interval is None else list(self.interval),
            "episodes": [{"return": return_, "length": length} for return_, length in episodes],
        }


def evaluate_policy(
    policy: Policy | Dreamer | Path | str,
    env: Any = None,
    episodes: int = 10,
    *,
    seed: int | None = None,
    device: str = "auto",
    render: bool = False,
    video: Path | str | None = None,
) -> Evaluation:
    """Play episodes to their end; available as `reverie.evaluate`.

    Args:
        policy: a policy, an agent, or the folder of a run, of one of its checkpoints or of a saved agent. Agents and
            folders take the actor's most likely actions.
        env: a Gymnasium id, `module:Class`, a class or function that creates the environment, or an instance, which is
            not closed; None takes the one that the agent was trained in. Action repeat and time limit are the agent's.
        episodes: number of episodes.
        seed: seed of environments and samples; None derives one from the run's, apart from those of training.
        device: auto, cpu or cuda, for folders.
        render: show the environment in a window, one episode after the other.
        video: .mp4 file to record the episodes to.

    Raises:
        ReverieError: for what a user can correct.
    """
    if episodes < 1:
        raise ReverieError(f"The number of episodes is {episodes}. Nothing was played. Give at least 1.")
    if render and video is not None:
        raise ReverieError("An environment has one render mode: a window or a video. Choose one of them.")
    if isinstance(policy, str | Path):
        policy = Policy(load(policy, device))
    elif isinstance(policy, Dreamer):
        policy = Policy(policy)
    agent = policy.agent
    config, factory = choose_env(agent.config.env, env)
    origin = "derived from the run's, apart from training" if seed is None else "given"
    seed = evaluation_seed(agent.config.training.seed, 0) if seed is None else seed
    if render or video is not None or isinstance(env, gymnasium.Env):
        policy = Policy(agent, policy.deterministic, seed)  # its own state and samples
        played = _play_in_one(policy, config, factory, episodes, seed, render, None if video is None else Path(video))
    else:
        played = evaluate(agent, config, episodes, seed, factory, mode="mode" if policy.deterministic else "sample")
    return Evaluation(
        np.array([episode.return_ for episode in played]),
        np.array([episode.length for episode in played]),
        config.name,
        agent.agent_steps,
        seed,
        {**_protocol(config, factory, policy.deterministic), "seed": origin},
    )


def _play_in_one(
    policy: Policy,
    config: EnvConfig,
    factory: EnvFactory | None,
    episodes: int,
    seed: int,
    render: bool,
    video: Path | None,
) -> list[Episode]:
    """Play in one plain Gymnasium environment, which may be shown or recorded."""
    if video is not None and video.suffix.lower() != ".mp4":
        raise ReverieError(f"The video {video} is no .mp4 file. Nothing was played. Let its name end in .mp4.")
    is_instance = getattr(factory, "single", False)
    with ExitStack() as stack:
        env = make_gym_env(config, factory, "human" if render else "rgb_array" if video else None)
        if not is_instance:
            stack.callback(env.close)
        if env.action_space != policy.action_space:
            raise EnvError(
                f"The agent was trained on actions {policy.action_space}, but {config.name} takes {env.action_space}."
            )
        watch = EpisodeWatch(report_to_standard_error, "evaluation", config.time_limit)
        write = None
        if video is not None:
            write = stack.enter_context(video_writer(video, float(env.metadata.get("render_fps") or FPS)))

        def on_step(is_last: bool) -> None:
            watch.step(is_last)
            if write is not None:
                write(render_frame(env))

        first = int(np.random.SeedSequence((seed, 0)).generate_state(1)[0])  # as `make_env` seeds its first
        return play_episodes(policy, env, episodes, first, on_step)


def _protocol(config: EnvConfig, factory: EnvFactory | None, deterministic: bool) -> dict[str, Any]:
    return {
        "sticky_actions": config.sticky_actions if factory is None and is_atari(config.name) else None,
        "action_repeat": config.action_repeat,
        "time_limit": config.time_limit or None,
        "actions": "mode" if deterministic else "sampled",
        "latents": "sampled",
        "episodes": "counted to their end",
    }
