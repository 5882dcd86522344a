"""A trained agent in a Gymnasium environment: observations as its `step` returns them, actions as it takes them."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from reverie.acting import AgentPolicy
from reverie.dreamer import ActState, Dreamer
from reverie.envs.atari import screens_to_images
from reverie.envs.observations import unbatch
from reverie.envs.registry import is_atari
from reverie.envs.space_json import adapters_from_json, space_from_json, spec_to_json
from reverie.envs.spaces import InvalidStepError
from reverie.errors import ObservationError
from reverie.specs import Array

_GIVE = "Give the observation that env.reset or env.step returns."


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
        native = spec_to_json(agent.spec)
        self.observation_space, self.action_space = (space_from_json(native[key]) for key in ("observation", "action"))
        """Spaces of the environment that the agent was trained in; an empty Dict in place of what it does not read."""
        seed = agent.config.training.seed if seed is None else seed
        generator = torch.Generator(agent.device).manual_seed(seed)
        self._policy = AgentPolicy(agent, "mode" if deterministic else "sample", generator)
        name = agent.config.env.name
        self._observe, self._act = adapters_from_json(native, name)
        self._reads_screens = is_atari(name) and isinstance(self.observation_space, spaces.Box)
        self._is_first: NDArray[np.bool_] | None = None
        """Environments whose next observation begins an episode; None for all, whatever their number."""

    def __call__(self, obs: Any) -> Any:
        """Choose an action, or one for each environment of a batch.

        Args:
            obs: observation of the environment, or a batch of them [N, …] as `gymnasium.vector` returns. Atari agents
                also take the screens of `gymnasium.make("ALE/…")`.

        Returns:
            What the environment's `step` takes: one action, or N as `gymnasium.vector` takes them.

        Raises:
            ObservationError: if the observation does not fit the space that the agent was trained on.
        """
        try:
            values, count = self._read(obs)
            rows = [values] if count is None else unbatch(values, count)
            converted = [self._observe.convert(row) for row in rows]
        except InvalidStepError as error:
            raise ObservationError(f"The {error}. {_GIVE}") from None
        step = {key: np.stack([row[key] for row in converted]) for key in converted[0]}
        step["is_first"] = np.ones(len(rows), bool) if self._is_first is None else self._is_first
        actions = [self._act(row) for row in self._policy(step)]
        self._is_first = np.zeros(len(rows), bool)
        return actions[0] if count is None else self._act.join(actions)

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

    def _read(self, obs: Any) -> tuple[dict[str, Array], int | None]:
        """Return the entries of an observation, and N if it is a batch."""
        if isinstance(obs, tuple) and not self._is_tuple_of_space(obs):
            raise ObservationError(f"The observation is a tuple. {_GIVE}")
        values, counts = {}, {}
        for key, value in self._observe.split(obs).items():
            entry = self._observe.entries[key]
            name, expected = f"'{key}'" if entry.path else "The observation", entry.space.shape or ()
            try:
                array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
            except Exception:
                raise ObservationError(f"{name} is a {type(value).__name__}, not an array. {_GIVE}") from None
            values[key] = array = screens_to_images(array, expected) if self._reads_screens else array
            if array.shape not in (expected, (*array.shape[:1], *expected)):
                batch = f"({', '.join(map(str, ('N', *expected)))}{'' if expected else ','})"
                raise ObservationError(
                    f"{name} has shape {array.shape}, but the agent was trained on {expected}. "
                    f"Give {expected}, or {batch} for a batch."
                )
            counts[key] = None if array.shape == expected else len(array)
        count, *others = set(counts.values())
        if others:
            sizes = (f"'{key}' is {'no batch' if n is None else f'a batch of {n}'}" for key, n in counts.items())
            raise ObservationError(f"The observation's entry {', '.join(sizes)}. Give the same for all.")
        if count == 0:
            raise ObservationError("The observation is a batch of 0 environments. Give at least one.")
        if self.state is not None and len(self.state.action) != (count or 1):
            raise ObservationError(
                f"The observation is of {count or 1} environments, but the policy acts in {len(self.state.action)}. "
                "Call policy.reset() before acting in others."
            )
        return values, count

    def _is_tuple_of_space(self, obs: tuple[Any, ...]) -> bool:
        """Return False for a tuple that is something else, such as the pair that `env.reset` returns."""
        space = self.observation_space
        if not isinstance(space, spaces.Tuple) or len(obs) != len(space):
            return False
        return isinstance(space[-1], spaces.Dict) or not isinstance(obs[-1], dict)
