"""Steps from environments, taken between the updates."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.envs import EnvState, VectorEnv
from reverie.errors import EnvError
from reverie.specs import Step

LATEST = "latest/"
"""Prefix of the latest step's keys in a collector's state."""

Actions = NDArray[np.float32]
Mask = NDArray[np.bool_]
Policy = Callable[[Step], Actions]
"""Chooses actions [N, A] from the latest steps [N, …]."""


class Episode(NamedTuple):
    """A finished episode."""

    return_: float
    """Undiscounted sum of its raw rewards."""
    length: int
    """Agent steps."""
    info: Mapping[str, Any] = {}
    """The environment's `info` of the step that ended it."""
    env: int = 0
    """Index of its environment."""


@dataclass
class Transition:
    """One agent step in every environment."""

    steps: list[tuple[Step, Mask]]
    """Steps [N, …], each with the mask [N] of its valid rows: first steps of new episodes, if any, then the step."""
    episodes: list[Episode] = field(default_factory=list)
    """Those that ended with this step."""
    failed: Sequence[int] = ()
    """Environments that failed instead of taking the step; their episodes are truncated before it."""
    errors: list[EnvError] = field(default_factory=list)
    """Failures of environments that were restarted."""
    seconds: float = 0.0
    """Wall time that was spent during updates."""

    @property
    def num_steps(self) -> int:
        """Agent steps in all environments together."""
        return int(self.steps[-1][1].sum())


class CollectorState(NamedTuple):
    """State of environments between two steps."""

    envs: list[EnvState]
    arrays: dict[str, NDArray[Any]]
    """Latest steps [N, …] under `LATEST`, and the sums of running episodes."""


class SyncCollector:
    """Takes one step in every environment at each call."""

    phase = "collect"
    """Name of the time that the learner spends in `step`."""

    def __init__(self, env: VectorEnv) -> None:
        self._env = env
        self.spec, self.num_envs, self.frames_per_step = env.spec, env.num_envs, env.frames_per_step
        self._latest: Step = {}
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, int)

    def step(self, policy: Policy, max_steps: int = 1) -> list[Transition]:
        """Take one agent step in every environment, after resetting those whose episode has ended."""
        steps = []
        if (mask := self._env.needs_reset).any():
            self._latest = self._env.reset(mask)
            steps.append(self._begin(mask & ~self._env.failed))
        action = policy(self._latest)
        self._latest = step = self._env.step(action)
        failed = self._env.failed
        if (began := step["is_first"]).any():  # of environments that reset themselves
            steps.append(self._begin(began & ~failed))
        taken = ~(began | failed)
        steps.append(({**step, "action": action}, taken))
        self._returns += step["reward"]
        self._lengths += taken
        episodes = [
            Episode(float(self._returns[i]), int(self._lengths[i]), self._env.infos[i], i)
            for i in np.flatnonzero(step["is_last"] & taken).tolist()
        ]
        return [Transition(steps, episodes, np.flatnonzero(failed).tolist(), self._env.pop_errors())]

    def _begin(self, began: Mask) -> tuple[Step, Mask]:
        """Begin episodes in some environments with their latest step."""
        self._returns[began] = 0
        self._lengths[began] = 0
        # The action that led into an episode's first step is zero (SPEC 1).
        return {**self._latest, "action": np.zeros((self.num_envs, self.spec.action.size), np.float32)}, began

    def flush(self) -> list[Transition]:
        """Wait for steps that are under way, and return them; here there are none."""
        return []

    def state(self) -> CollectorState | None:
        """Return the states of the environments, None where one failed; raise EnvError where one cannot save it."""
        if not self._env.is_usable or not self._latest:
            return None
        latest = {LATEST + key: rows for key, rows in self._latest.items()}
        return CollectorState(self._env.get_states(), {**latest, "returns": self._returns, "lengths": self._lengths})

    def restore(self, state: CollectorState, episodes: Sequence[Callable[[], Iterator[Step]]]) -> list[str]:
        """Restore the states of new environments, and return for each why that failed; empty if it did not."""
        arrays = {name: rows.copy() for name, rows in state.arrays.items()}
        self._returns, self._lengths = arrays.pop("returns"), arrays.pop("lengths")
        self._latest = {name.removeprefix(LATEST): rows for name, rows in arrays.items()}
        return self._env.set_states(state.envs, self._latest, episodes)

    def close(self) -> None:
        """Close the environments."""
        self._env.close()
