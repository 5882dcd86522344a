"""A trained agent in a Gymnasium environment: observations as its `step` returns them, actions as it takes them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from reverie.acting import AgentPolicy
from reverie.dreamer import ActState, Dreamer
from reverie.envs.atari import screen_shape, screen_to_image
from reverie.envs.catalog import is_atari
from reverie.envs.checks import InvalidStepError
from reverie.envs.space_json import Space, native_spaces
from reverie.envs.spaces import ActionAdapter, ObservationAdapter
from reverie.errors import ObservationError
from reverie.specs import Step


class Policy:
    """A trained agent's policy, with the latent state of its running episodes.

        policy = reverie.load("runs/x").policy()
        obs, info = env.reset()
        policy.reset()
        obs, reward, terminated, truncated, info = env.step(policy(obs))

    Args:
        agent: the agent.
        deterministic: take the actor's most likely actions, as in evaluation; False samples them. Latent states are
            sampled in both cases.
        seed: seed of the samples; None takes that of the agent's configuration.
    """

    def __init__(self, agent: Dreamer, deterministic: bool = True, seed: int | None = None) -> None:
        self.agent, self.deterministic = agent, deterministic
        self.observation_space, self.action_space = native_spaces(agent.spec)
        """Spaces of the environment that the agent was trained in."""
        seed = agent.config.training.seed if seed is None else seed
        generator = torch.Generator(agent.device).manual_seed(seed)
        self._policy = AgentPolicy(agent, "mode" if deterministic else "sample", generator)
        name, size = agent.config.env.name, agent.config.env.image_size
        self._observe = ObservationAdapter(self.observation_space, name, size)
        self._act = ActionAdapter(self.action_space, name)
        self._reads_screens = is_atari(name) and isinstance(self.observation_space, spaces.Box)
        self._is_first: NDArray[np.bool_] | None = None
        """Environments whose next observation begins an episode; None for all, whatever their number."""

    def __call__(self, obs: Any) -> Any:
        """Choose an action, or one for each environment of a batch.

        Args:
            obs: observation of the environment, or a batch of them [N, …] as `gymnasium.vector` returns. Atari agents
                also take the screens of `gymnasium.make("ALE/…")`. A step of `reverie.make_env` is recognised by its
                `is_first`, which resets the state then.

        Returns:
            What the environment's `step` takes: one action, or an array of N; rows [N, A] for `reverie.make_env`.

        Raises:
            ObservationError: if the observation does not fit the space that the agent was trained on.
        """
        if isinstance(obs, Mapping) and "is_first" in obs:
            return self._policy(obs)
        obs = _to_arrays(obs, self.observation_space)
        if self._reads_screens:
            obs = self._screens_to_images(obs)
        count = self._batch_size(obs)
        num_envs = 1 if count is None else count
        if self._is_first is not None and len(self._is_first) != num_envs:
            raise ObservationError(
                f"The observation is of {num_envs} environments, but the policy acts in {len(self._is_first)}. "
                "Call policy.reset() before acting in others."
            )
        step = self._to_step([obs] if count is None else [_row(obs, index) for index in range(count)])
        step["is_first"] = np.ones(num_envs, bool) if self._is_first is None else self._is_first
        actions = [self._act(row) for row in self._policy(step)]
        self._is_first = np.zeros(num_envs, bool)
        return actions[0] if count is None else np.array(actions, self.action_space.dtype)

    def reset(self, mask: Any = None) -> None:
        """Forget the state: the next observation begins an episode.

        Args:
            mask: environments of the batch to reset, [N] bool, such as the `terminated | truncated` of the step before;
                None resets all, and lets their number change.

        Raises:
            ValueError: if the mask is not of the batch's size.
        """
        if mask is None or (self._is_first is None and self.state is None):
            self._is_first = None
            self._policy.reset()
        elif self._is_first is None or np.shape(mask) != self._is_first.shape:
            raise ValueError(f"The mask has shape {np.shape(mask)}. Give one bool for each environment of the batch.")
        else:
            self._is_first = self._is_first | np.asarray(mask, bool)

    @property
    def state(self) -> ActState | None:
        """State of the running episodes; None before the first observation."""
        return self._policy.state

    def __repr__(self) -> str:
        """Return the spaces and the mode."""
        mode = "deterministic" if self.deterministic else "sampling"
        return f"Policy({mode}, observations {self.observation_space}, actions {self.action_space})"

    def _screens_to_images(self, screens: NDArray[Any]) -> NDArray[Any]:
        shape = screen_shape(screens.shape)
        image_shape: tuple[int, ...] = self.observation_space.shape or ()
        if shape is None or screens.dtype != np.uint8 or (len(shape) == 2 and image_shape[-1] == 3):
            return screens
        if screens.shape == shape:
            return screen_to_image(screens, image_shape)
        images = [screen_to_image(screen, image_shape) for screen in screens]
        return np.stack(images) if images else screens

    def _batch_size(self, obs: Any) -> int | None:
        """Return N of a batch, None for one observation."""
        counts = {key: _batch_size(array, space, key) for key, array, space in _leaves(obs, self.observation_space)}
        (first, count), *others = counts.items()
        for key, other in others:
            if other != count:
                sizes = [f"a batch of {size}" if size is not None else "no batch" for size in (other, count)]
                raise ObservationError(f"'{key}' is {sizes[0]}, but '{first}' is {sizes[1]}. Give the same for all.")
        if count == 0:
            raise ObservationError("The observation is a batch of 0 environments. Give at least one.")
        return count

    def _to_step(self, rows: list[Any]) -> Step:
        try:
            converted = [self._observe(row) for row in rows]
        except InvalidStepError as complaint:
            raise ObservationError(f"The {complaint}. {_GIVE}") from None
        return {key: np.stack([row[key] for row in converted]) for key in converted[0]}


def _to_arrays(obs: Any, space: Space, path: tuple[str, ...] = ()) -> Any:
    """Return an array, or a dict of arrays for a Dict space."""
    name = f"'{'/'.join(path)}'" if path else "The observation"
    if not isinstance(space, spaces.Dict):
        try:
            return obs.detach().cpu().numpy() if isinstance(obs, Tensor) else np.asarray(obs)
        except Exception:
            raise ObservationError(f"{name} is a {type(obs).__name__}, not an array. {_GIVE}") from None
    keys = ", ".join(space.spaces)
    if not isinstance(obs, Mapping):
        raise ObservationError(f"{name} is a {type(obs).__name__}, but the agent reads a dict of {keys}. {_GIVE}")
    if missing := [key for key in space.spaces if key not in obs]:
        raise ObservationError(f"{name} has no '{missing[0]}'. The agent reads a dict of {keys}. {_GIVE}")
    return {key: _to_arrays(obs[key], child, (*path, key)) for key, child in space.spaces.items()}


def _leaves(obs: Any, space: Space, path: tuple[str, ...] = ()) -> Iterator[tuple[str, NDArray[Any], Space]]:
    """Yield key, array and space of each entry of an observation."""
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            yield from _leaves(obs[key], child, (*path, key))
    else:
        yield "/".join(path), obs, space


def _batch_size(array: NDArray[Any], space: Space, key: str) -> int | None:
    shape = space.shape or ()
    if array.shape == shape:
        return None
    if array.shape[1:] == shape:
        return len(array)
    name = f"'{key}'" if key else "The observation"
    batch = f"(N, {', '.join(map(str, shape))})" if shape else "(N,)"
    raise ObservationError(
        f"{name} has shape {array.shape}, but the agent was trained on {shape}. Give {shape}, or {batch} for a batch."
    )


def _row(obs: Any, index: int) -> Any:
    return {key: _row(value, index) for key, value in obs.items()} if isinstance(obs, dict) else obs[index]


_GIVE = "Give the observation that env.reset or env.step returns."
