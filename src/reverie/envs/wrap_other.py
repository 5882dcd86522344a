"""Environments of other interfaces as `gymnasium.Env`: dm_env's, and those of the older Gym.

They are recognised by what they have, so that neither dm_env nor Gym is imported.
"""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.envs.spaces import Space
from reverie.envs.step_wrapper import check_reward
from reverie.errors import EnvError
from reverie.specs import Array


def wrap_other(env: Any) -> gymnasium.Env[Any, Any] | None:
    """Return a dm_env or old-Gym environment as a `gymnasium.Env`, a `gymnasium.Env` as it is, and None otherwise."""
    if isinstance(env, gymnasium.Env):
        return env
    if isinstance(env, type) or not (callable(getattr(env, "reset", None)) and callable(getattr(env, "step", None))):
        return None
    if hasattr(env, "action_spec") and hasattr(env, "observation_spec"):
        return DmEnv(env)
    return OldGymEnv(env) if hasattr(env, "action_space") and hasattr(env, "observation_space") else None


class DmEnv(gymnasium.Env[Any, Any]):
    """A `dm_env.Environment`.

    A last step with discount 0 terminates the episode, one with another discount truncates it. Environments of
    dm_control are seeded at every reset and can be rendered; dm_env itself knows neither.

    Args:
        env: the environment.
        camera: number of the camera of dm_control's physics that `render` uses.
        action_repeat: environment steps per step; an attribute, too.
    """

    def __init__(self, env: Any, camera: int = 0, action_repeat: int = 1) -> None:
        self.wrapped = env
        self._camera, self.action_repeat = camera, action_repeat
        self._physics = getattr(env, "physics", None)
        random = getattr(env, "random_state", None) or getattr(getattr(env, "task", None), "random", None)
        self._random = random if isinstance(random, np.random.RandomState) else None
        self.render_mode = None if self._physics is None else "rgb_array"
        self.metadata = {"render_modes": [] if self._physics is None else ["rgb_array"]}
        if hasattr(env, "control_timestep"):
            self.metadata["render_fps"] = round(1 / (env.control_timestep() * action_repeat))
        self.observation_space = _space_of_spec(env.observation_spec())
        self.action_space = _space_of_spec(env.action_spec())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        if self._random is not None:
            self._random.seed(int(self.np_random.integers(1 << 32)))
        return self._observe(self.wrapped.reset().observation), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Repeat an action, and sum the rewards."""
        total = 0.0
        for _ in range(self.action_repeat):
            time_step = self.wrapped.step(action)
            total += 0.0 if time_step.reward is None else check_reward(time_step.reward)
            if time_step.last():
                break
        is_terminal = bool(time_step.last() and time_step.discount == 0)
        return self._observe(time_step.observation), total, is_terminal, time_step.last() and not is_terminal, {}

    def render(self, height: int = 240, width: int = 320) -> Any:
        """Return a picture [height, width, 3] of dm_control's physics; None without physics."""
        return None if self._physics is None else self._physics.render(height, width, camera_id=self._camera)

    def close(self) -> None:
        """Close the environment, if it can be closed."""
        getattr(self.wrapped, "close", lambda: None)()

    def _observe(self, observation: Any) -> Any:
        return observation


class OldGymEnv(gymnasium.Env[Any, Any]):
    """An environment of the older Gym, whose `reset` returns an observation and whose `step` four values.

    `info["TimeLimit.truncated"]` says whether its last step truncates the episode, as Gym's own TimeLimit does. Its
    `seed` method is called where there is one. Environments of Gym 0.26, with five values and a seed for `reset`, are
    taken, too.
    """

    def __init__(self, env: Any) -> None:
        self.wrapped = env
        self.metadata = dict(getattr(env, "metadata", None) or {})
        self.render_mode = getattr(env, "render_mode", None)
        self._has_mode_argument = self.render_mode is None and "rgb_array" in self.metadata.get("render.modes", ())
        if self._has_mode_argument:
            self.render_mode, self.metadata["render_modes"] = "rgb_array", ["rgb_array"]
        self.observation_space = space_of_old_gym(env.observation_space)
        self.action_space = space_of_old_gym(env.action_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        result = self.wrapped.reset(**self._seed(seed))
        has_info = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)
        return result if has_info else (result, {})

    def step(self, action: Any) -> Any:
        """Take a step."""
        result = self.wrapped.step(action)
        if not (isinstance(result, tuple) and len(result) == 4 and isinstance(result[3], dict)):
            return result  # of five values, or refused where steps are checked
        observation, reward, done, info = result
        is_truncated = bool(done and info.get("TimeLimit.truncated", False))
        return observation, reward, bool(done) and not is_truncated, is_truncated, info

    def render(self) -> Any:
        """Return what the environment renders."""
        return self.wrapped.render("rgb_array") if self._has_mode_argument else self.wrapped.render()

    def close(self) -> None:
        """Close the environment, if it can be closed."""
        getattr(self.wrapped, "close", lambda: None)()

    def _seed(self, seed: int | None) -> dict[str, int]:
        if seed is not None and hasattr(self.wrapped, "seed"):
            self.wrapped.seed(seed)
        elif seed is not None:
            with suppress(TypeError, ValueError):
                inspect.signature(self.wrapped.reset).bind(seed=seed)
                return {"seed": seed}
        return {}


def space_of_old_gym(space: Any) -> Space:
    """Return a space of the older Gym, or one with the same attributes, as Gymnasium's.

    Raises:
        EnvError: if it is none of Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple.
    """
    if isinstance(space, spaces.Space):
        return space
    if hasattr(space, "spaces"):
        if isinstance(space.spaces, Mapping):
            return spaces.Dict([(key, space_of_old_gym(child)) for key, child in space.spaces.items()])
        return spaces.Tuple([space_of_old_gym(child) for child in space.spaces])
    if hasattr(space, "low"):
        return _box(space.low, space.high, space.shape, space.dtype)
    if hasattr(space, "nvec"):
        return spaces.MultiDiscrete(np.asarray(space.nvec))
    if hasattr(space, "n"):
        if getattr(space, "shape", None):
            return spaces.MultiBinary(space.n)
        return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
    raise EnvError(
        f"The space {space} is none that reverie knows. Nothing can be converted. Give it a gymnasium space."
    )


def _space_of_spec(spec: Any) -> Space:
    """Return the space of a dm_env spec, or of a mapping or sequence of these."""
    if isinstance(spec, Mapping):
        return spaces.Dict([(key, _space_of_spec(child)) for key, child in spec.items()])
    if isinstance(spec, list | tuple):
        return spaces.Tuple([_space_of_spec(child) for child in spec])
    if hasattr(spec, "num_values"):
        return spaces.Discrete(int(spec.num_values))
    if hasattr(spec, "string_type"):
        return spaces.Text(1 << 16)
    if hasattr(spec, "minimum"):
        low, high = (np.broadcast_to(bound, spec.shape) for bound in (spec.minimum, spec.maximum))
        return _box(low, high, spec.shape, spec.dtype)
    limits: tuple[float, float] = (-np.inf, np.inf)
    if spec.dtype.kind != "f":
        limits = (0, 1) if spec.dtype.kind == "b" else (np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max)
    return _box(*limits, spec.shape, spec.dtype)


def _box(low: Array | float, high: Array | float, shape: tuple[int, ...], dtype: Any) -> spaces.Box[Any]:
    low, high = (np.broadcast_to(np.asarray(bound), shape).astype(dtype) for bound in (low, high))
    return spaces.Box(low, high, shape, np.dtype(dtype).type)
