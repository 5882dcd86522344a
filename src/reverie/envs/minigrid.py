"""MiniGrid and BabyAI as pictures. The only module that knows the package minigrid."""

from typing import Any

import gymnasium

from reverie.envs.images import IMAGE_SIZE

PREFIXES = ("MiniGrid-", "BabyAI-")
"""Beginnings of the ids of both."""


def add_agent_view(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Return an environment of MiniGrid whose `image` is what its agent sees, drawn by minigrid's own wrapper.

    The tiles have so many pixels that at least 64x64 are drawn.
    """
    from minigrid.wrappers import RGBImgPartialObsWrapper

    own: Any = env.observation_space
    view: gymnasium.Env[Any, Any] = RGBImgPartialObsWrapper(env, -(-IMAGE_SIZE[0] // own["image"].shape[0]))
    return view
