"""The interface of collectors, and the data that they return."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from reverie.acting import AgentPolicy
from reverie.dreamer import Dreamer
from reverie.envs import EnvState
from reverie.errors import EnvError
from reverie.specs import EnvSpec, Step

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
    """One agent step in every environment, or in those of one collector among several."""

    steps: list[tuple[Step, Mask]]
    """Steps [N, …], each with the mask [N] of its valid rows: first steps of new episodes, if any, then the step.
    Nothing where the whole collector failed."""
    episodes: list[Episode] = field(default_factory=list)
    """Those that ended with this step."""
    failed: Sequence[int] = ()
    """Environments that failed instead of taking the step; their episodes are truncated before it."""
    errors: list[EnvError] = field(default_factory=list)
    """Failures after which environments were restarted."""
    seconds: float = 0.0
    """Wall time that was spent during updates."""
    envs: range | None = None
    """Numbers of the environments, where they are not all of them."""
    idle_steps: int = 0
    """Agent steps that count although none was taken, where steps come from data alone."""
    policy_lag: int | None = None
    """Updates that were made since the agent had the weights that chose the actions; None where this is not known."""

    @property
    def num_steps(self) -> int:
        """Agent steps in all environments together."""
        return int(self.steps[-1][1].sum()) if self.steps else self.idle_steps


class CollectorState(NamedTuple):
    """State of environments between two steps."""

    envs: list[EnvState]
    arrays: dict[str, NDArray[Any]]
    """Latest steps [N, …] under `LATEST`, and the sums of running episodes."""


@runtime_checkable
class Collector(Protocol):
    """Steps N environments, in the thread that calls it, during the updates, or on other machines."""

    phase: str
    """Name of the time that the learner spends in `step` and `flush`."""
    spec: EnvSpec
    num_envs: int
    frames_per_step: int

    def step(self, policy: Policy, max_steps: int = 1) -> list[Transition]:
        """Take or begin the next agent steps, at most `max_steps` in all environments together, or one in each."""

    def flush(self) -> list[Transition]:
        """Wait for the steps that `step` began, and return them."""

    def make_policy(self, agent: Dreamer) -> AgentPolicy:
        """Return the policy with which an agent acts in these environments while it learns."""

    def state(self) -> CollectorState | None:
        """Return the states of the environments, None where one failed; raise EnvError where one cannot save it."""

    def restore(self, state: CollectorState, episodes: Sequence[Callable[[], Iterator[Step]]]) -> list[str]:
        """Restore the states of new environments, and return for each why that failed; empty if it did not.

        Args:
            state: what `state` returned.
            episodes: for each environment the steps of its latest episode, see `VectorEnv.set_states`.
        """

    def close(self) -> None:
        """Close the environments."""
