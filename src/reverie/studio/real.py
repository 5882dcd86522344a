"""A real environment beside the dream, which can be taken back to any of its steps."""

from enum import Enum
from typing import Any

import numpy as np

from reverie.config import EnvConfig
from reverie.dreamer import Dreamer
from reverie.envs.create import create_env
from reverie.envs.factories import choose_env
from reverie.envs.make import wrap_env
from reverie.envs.step_wrapper import EnvState
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec, Step

Row = dict[str, Array]
"""One step: arrays by key, without a leading axis."""


class RealEnvironment:
    """One episode of an agent's environment, as a tree: a step may be taken from any step before.

    An environment that saves its state loads it; another one takes the actions of the path again, and is refused where
    it does not come to the same.
    """

    def __init__(self, agent: Dreamer, seed: int, env: Any = None) -> None:
        config, factory = choose_env(agent.config.env, env)
        created = create_env(EnvConfig(**{**vars(config), "num_envs": 1}), factory)
        self.meanings = action_meanings(created)
        """Names of the discrete actions; none if the environment gives them none."""
        self._wrapper = wrap_env(config, created, seed)
        self._spec = agent.spec
        found = self._wrapper.spec
        if found.step != agent.spec.step or found.action != agent.spec.action:
            self.close()
            raise EnvError(
                f"{config.name} has other observations or actions than the agent was trained with. Only the dream can "
                "be played."
            )

    def reset(self) -> tuple[Row, EnvState]:
        """Start the episode."""
        row = self._row(self._wrapper.reset(), np.zeros(self._spec.action.size, np.float32))
        return row, self._wrapper.get_state()

    def step(self, action: Array, path: list[Row], state: EnvState, is_there: bool) -> tuple[Row, EnvState]:
        """Take an action.

        Args:
            action: the action [A].
            path: all rows of the episode up to the step that it is taken from.
            state: of the environment at that step.
            is_there: True where it is the latest step.
        """
        if not is_there and not self._wrapper.set_state(state):
            self._wrapper.replay(stack(path))
        return self._row(self._wrapper.step(action), action), self._wrapper.get_state()

    def close(self) -> None:
        """Close the environment."""
        self._wrapper.close()

    def _row(self, found: dict[str, Any], action: Array) -> Row:
        return as_row({**found, "action": action}, self._spec)


def action_meanings(env: Any) -> list[str]:
    """Return the names that an environment gives to its discrete actions; none if it gives them none.

    They come from `get_action_meanings`, as in Atari, or from an enumeration `actions`, as in MiniGrid.
    """
    inner = env.unwrapped
    if hasattr(inner, "get_action_meanings"):
        return [str(name) for name in inner.get_action_meanings()]
    names = getattr(inner, "actions", None)
    return [each.name for each in names] if isinstance(names, type) and issubclass(names, Enum) else []


def as_row(found: dict[str, Any], spec: EnvSpec) -> Row:
    """Return the arrays of a step with the dtypes of a replay."""
    return {key: np.asarray(found[key], each.dtype) for key, each in spec.step.items()}


def stack(rows: list[Row]) -> Step:
    """Return rows as one array [T, …] for each key."""
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
