"""Steps from environments: policies that act in them, and the collector that notes what happens."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from reverie.envs import BatchedEnv, EnvState
from reverie.errors import EnvError
from reverie.specs import ActionSpec, Step

LATEST = "latest/"
"""Before the keys of the latest steps, in a collector's state."""

Actions = NDArray[np.float32]


@runtime_checkable
class Policy(Protocol):
    """Chooses actions [N, A] from the latest steps [N, …]."""

    def __call__(self, step: Step, /) -> Actions: ...  # noqa: D102


class RandomPolicy:
    """Uniform random actions, for the prefill."""

    def __init__(self, action: ActionSpec, rng: np.random.Generator) -> None:
        self._action = action
        self._rng = rng
        self._one_hot = [np.eye(size, dtype=np.float32) for size in action.sizes if action.kind == "discrete"]

    def __call__(self, step: Step, /) -> Actions:
        """Draw one action for each environment."""
        num_envs = len(step["is_first"])
        if self._action.kind == "continuous":
            return self._rng.uniform(-1, 1, (num_envs, self._action.size)).astype(np.float32)
        return np.concatenate([rows[self._rng.integers(len(rows), size=num_envs)] for rows in self._one_hot], -1)


class Episode(NamedTuple):
    """A finished episode."""

    return_: float
    """Sum of its raw rewards."""
    length: int
    """Agent steps."""


Rows = tuple[Step, NDArray[np.bool_]]
"""A step [N, …] with the rows of it that are new."""


class Collected(NamedTuple):
    """One agent step in every environment."""

    steps: list[Rows]
    """For `ReplayBuffer.add`: first steps of new episodes, if any began, then the step itself."""
    episodes: list[tuple[int, Episode]]
    """Those that ended with this step, each with the number of its environment."""
    broken_off: tuple[int, ...] = ()
    """Environments that failed instead of taking the step: their episodes are truncated before it."""

    @property
    def num_steps(self) -> int:
        """Agent steps in all environments together."""
        return int(self.steps[-1][1].sum())


class Collector:
    """Steps environments.

    Args:
        env: the environments.
    """

    def __init__(self, env: BatchedEnv) -> None:
        self._env = env
        self._latest: Step = {}
        self._done: NDArray[np.bool_] = np.ones(env.num_envs, bool)  # Environments without a running episode.
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, int)

    def state(self) -> dict[str, NDArray[Any]]:
        """The latest steps and the sums of running episodes, as arrays by name; empty before the first step."""
        if not self._latest:
            return {}
        latest = {LATEST + key: rows for key, rows in self._latest.items()}
        return {**latest, "returns": self._returns, "lengths": self._lengths}

    def put_back(
        self,
        state: Mapping[str, NDArray[Any]],
        envs: Sequence[EnvState],
        episodes: Sequence[Callable[[], Iterator[Step]]],
    ) -> list[str]:
        """Go on where another collector and its environments stood.

        Args:
            state: of the other, from `state`; not empty.
            envs: of its environments.
            episodes: the latest episode of each, see `BatchedEnv.put_back`.

        Returns:
            For each environment why it could not be put back; empty if it stands where the other one stood.
        """
        latest = {key.removeprefix(LATEST): rows.copy() for key, rows in state.items() if key.startswith(LATEST)}
        problems = self._env.put_back(envs, latest, episodes)
        self._latest = latest
        self._returns, self._lengths = state["returns"].copy(), state["lengths"].copy()
        self._done = latest["is_last"]
        return problems

    def collect(self, policy: Policy) -> Collected:
        """Take one agent step in every environment, after resetting those whose episode has ended."""
        steps = [self._reset()] if self._done.any() else []
        action = policy(self._latest)
        self._latest = step = self._env.step(action)
        taken = ~self._env.down
        steps.append(({**step, "action": action}, taken))
        self._returns += step["reward"]
        self._lengths += taken
        self._done = step["is_last"]
        ended = np.flatnonzero(self._done & taken).tolist()
        episodes = [(i, Episode(float(self._returns[i]), int(self._lengths[i]))) for i in ended]
        return Collected(steps, episodes, tuple(np.flatnonzero(~taken).tolist()))

    def _reset(self) -> Rows:
        self._latest = first = self._env.reset(self._done)
        began = self._done & ~self._env.down
        self._returns[began] = 0
        self._lengths[began] = 0
        # The action that led into an episode's first step is zero (SPEC 1).
        return {**first, "action": np.zeros((self._env.num_envs, self._env.spec.action.size), np.float32)}, began

    def take_faults(self) -> list[EnvError]:
        """What environments have failed with since the last call, and were made anew."""
        return self._env.take_faults()


@dataclass
class Block:
    """Steps that were taken one after the other, and that nobody has been told of yet."""

    collected: list[Collected] = field(default_factory=list)
    seconds: float = 0.0
    """That it took."""
    faults: list[EnvError] = field(default_factory=list)
    """What environments have failed with meanwhile, and were made anew."""
    error: Exception | None = None
    """What ended it early; the steps before it count."""


def collect_block(collector: Collector, policy: Policy, count: int) -> Block:
    """Take `count` steps in every environment; fewer where one fails."""
    start = time.perf_counter()
    block = Block()
    try:
        for _ in range(count):
            block.collected.append(collector.collect(policy))
    except Exception as error:
        block.error = error
    block.faults = collector.take_faults()
    block.seconds = time.perf_counter() - start
    return block
