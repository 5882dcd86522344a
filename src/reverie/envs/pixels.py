"""Pictures that an environment renders, as its observation."""

from typing import Any, Literal

import gymnasium
from gymnasium import spaces
from gymnasium.wrappers import AddRenderObservation

from reverie.config import EnvConfig
from reverie.envs.observations import ObservationAdapter
from reverie.envs.step_wrapper import Env
from reverie.errors import EnvError


class Rendered(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose observation is the picture that it renders, under the key `image` (`pixels` if it is taken).

    It repeats actions itself, so that one picture is rendered per agent step.

    Args:
        env: renders `rgb_array`, and repeats actions where they are repeated.
        observations: `pixels`, or `both` for the picture and its own observations.
        name: of the environment in messages.

    Raises:
        EnvError: if it renders no pictures.
    """

    def __init__(self, env: Env, observations: Literal["pixels", "both"], name: str) -> None:
        own = env.observation_space
        key = "pixels" if isinstance(own, spaces.Dict) and "image" in own.spaces else "image"
        try:
            super().__init__(AddRenderObservation(env, observations == "pixels", key, "vector"))
        except Exception as error:
            reason = "render_mode is None" if env.render_mode is None else error
            raise EnvError(
                f"{name} renders no pictures ({reason}). The agent observes them. "
                "Give it render_mode='rgb_array', or train from --env.observations state."
            ) from error


def has_image(env: Env, config: EnvConfig) -> bool:
    """Return whether an environment observes an image itself, with the keys that a configuration names."""
    try:
        observed = ObservationAdapter(env.observation_space, "", config.image_keys, config.vector_keys).specs
    except EnvError:
        return False
    return any(spec.is_image for spec in observed.values())


def repeats_actions(env: Env) -> bool:
    """Return whether an environment, or one inside its wrappers, is `Rendered`."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, Rendered):
            return True
        env = env.env
    return False
