"""Scores of a trained agent, its policy or its run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.wrappers import RenderCollection
from numpy.typing import NDArray
from scipy import stats

from reverie.agents import load
from reverie.dreamer import Dreamer
from reverie.envs import InstanceFactory, choose_env, create_env
from reverie.envs.factories import keep_open, keep_vector
from reverie.envs.gym_vector import num_vector_envs
from reverie.envs.registry import is_atari
from reverie.errors import ReverieError
from reverie.policy import Policy
from reverie.training.evaluation import evaluate, evaluation_seed
from reverie.video import mp4_writer


@dataclass(frozen=True)
class Scores:
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
        if self.std is None:
            return None
        half = float(stats.t.ppf(0.975, len(self.returns) - 1)) * self.std / len(self.returns) ** 0.5
        return self.mean - half, self.mean + half

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        names = ("env", "agent_steps", "seed", "protocol", "mean", "std", "interval")
        episodes = zip(self.returns.tolist(), self.lengths.tolist(), strict=True)
        return {
            **{name: getattr(self, name) for name in names},
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
) -> Scores:
    """Play episodes to their end; available as `reverie.evaluate`.

    Args:
        policy: a policy, an agent, or the folder of a run, of one of its checkpoints or of a saved agent. Agents and
            folders take the actor's most likely actions.
        env: a Gymnasium id, `module:Class`, a class or function that creates the environment, or an instance, which is
            not closed; None takes the one that the agent was trained in. Action repeat and time limit are the agent's,
            but those of a vector environment (of `gymnasium.vector` or EnvPool) are its own.
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
        policy = load(policy, device)
    agent, deterministic = (policy, True) if isinstance(policy, Dreamer) else (policy.agent, policy.deterministic)
    config, factory = choose_env(agent.config.env, keep_open(env))
    protocol = {
        "sticky_actions": config.sticky_actions if factory is None and is_atari(config.name) else None,
        "action_repeat": config.action_repeat,
        "time_limit": config.time_limit or None,
        "actions": "mode" if deterministic else "sampled",
        "seed": "given" if seed is not None else "derived from the run's, apart from training",
    }
    seed = evaluation_seed(agent.config.training.seed, 0) if seed is None else seed
    recording: Any = nullcontext(lambda: None)
    if video is not None:
        shown = RenderCollection(create_env(config, factory, "rgb_array"), reset_clean=False)
        recording, factory = _video_writer(Path(video), shown), InstanceFactory(shown)
    elif render:
        factory = InstanceFactory(create_env(config, factory, "human"))
    elif factory is not None:
        factory = keep_vector(factory)
    if isinstance(factory, InstanceFactory):
        config = replace(config, parallel=False, step_timeout=0)
        if num_vector_envs(factory.env):
            protocol |= {"action_repeat": 1, "time_limit": None}
    with recording as write_frames:
        mode: Any = "mode" if deterministic else "sample"
        played = evaluate(agent, config, episodes, seed, factory, on_step=write_frames, mode=mode)
    returns, lengths = (np.array(column) for column in zip(*((one.return_, one.length) for one in played), strict=True))
    return Scores(returns, lengths, config.name, agent.agent_steps, seed, protocol)


@contextmanager
def _video_writer(path: Path, env: RenderCollection[Any, Any]) -> Iterator[Callable[[], None]]:
    """Open an .mp4 file, and yield a function that writes what was rendered since its last call."""
    if path.suffix.lower() != ".mp4":
        raise ReverieError(f"The video {path} is no .mp4 file. Nothing was played. Let its name end in .mp4.")
    with mp4_writer(path, float(env.metadata.get("render_fps") or 30)) as append:

        def write_frames() -> None:
            for frame in env.render():
                if not (isinstance(frame, np.ndarray) and frame.shape[2:] == (3,) and frame.dtype == np.uint8):
                    raise ReverieError("render() returned no uint8 picture [H, W, 3]. No video can be made of it.")
                append(frame)

        yield write_frames
        write_frames()
