"""Episodes of a policy in one plain Gymnasium environment, and videos of them."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from reverie.envs.spaces import env_name
from reverie.errors import EnvError, ReverieError
from reverie.policy import Policy
from reverie.training.collectors import Episode

FPS = 30.0
"""Frames per second of a video where the environment has no `render_fps`."""


def play_episodes(
    policy: Policy,
    env: gymnasium.Env[Any, Any],
    episodes: int,
    seed: int | None = None,
    on_step: Callable[[bool], None] = lambda is_last: None,
) -> list[Episode]:
    """Play episodes to their end.

    Args:
        policy: chooses the actions; it is reset at the start of each episode.
        env: the environment. It is not closed.
        episodes: number of episodes.
        seed: seed of the first reset; None lets the environment choose.
        on_step: called after each reset and step with whether the episode has ended.

    Raises:
        EnvError: if the environment fails.
    """
    played = []
    for number in range(episodes):
        policy.reset()
        obs, _ = _call(env, functools.partial(env.reset, seed=seed if number == 0 else None))
        on_step(False)
        total, length, is_last = 0.0, 0, False
        while not is_last:
            obs, reward, terminated, truncated, _ = _call(env, functools.partial(env.step, policy(obs)))
            total, length, is_last = total + float(reward), length + 1, bool(terminated or truncated)
            on_step(is_last)
        played.append(Episode(total, length))
    return played


def render_frame(env: gymnasium.Env[Any, Any]) -> NDArray[np.uint8]:
    """Return the picture [H, W, 3] of an environment in render mode `rgb_array`.

    Raises:
        EnvError: if it fails, or is no picture.
    """
    frame = _call(env, env.render)
    if not (isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8):
        raise EnvError(f"{env_name(env)}.render() returned no uint8 picture [H, W, 3]. No video can be made of it.")
    return frame


@contextmanager
def video_writer(path: Path, fps: float) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """Open an .mp4 file for frames [H, W, 3], which are written as they come.

    Raises:
        ReverieError: if the file cannot be written.
    """
    import imageio.v2 as imageio

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"codec": "libx264", "quality": 8, "macro_block_size": 2, "ffmpeg_log_level": "error"}
        writer: Any
        with imageio.get_writer(path, format="FFMPEG", fps=fps, **options) as writer:
            # H.264 needs even sides: an odd last row or column is repeated.
            yield lambda frame: writer.append_data(
                np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
            )
    except (OSError, ImportError) as error:
        raise ReverieError(f"The video {path} cannot be written ({error}). Check folder and disk.") from error


def _call(env: gymnasium.Env[Any, Any], function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        raise EnvError(f"Environment {env_name(env)} raised {type(error).__name__}: {error}.") from error
