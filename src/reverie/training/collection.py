"""Steps from environments: policies that act in them, and the collector that notes what happens."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from reverie.acting import ActState, Player
from reverie.envs import BatchedEnv
from reverie.spaces import ActionSpec, Step

Actions = NDArray[np.float32]


@runtime_checkable
class Policy(Protocol):
    """Chooses actions [N, A] from the latest steps [N, …]."""

    def __call__(self, step: Step) -> Actions: ...  # noqa: D102


class RandomPolicy:
    """Uniform over the action space, for the prefill."""

    def __init__(self, action: ActionSpec, rng: np.random.Generator) -> None:
        self._action = action
        self._rng = rng

    def __call__(self, step: Step) -> Actions:
        """One draw for each environment."""
        count = len(step["is_first"])
        if self._action.kind == "continuous":
            return self._rng.uniform(-1, 1, (count, self._action.size)).astype(np.float32)
        parts = [np.eye(size, dtype=np.float32)[self._rng.integers(size, size=count)] for size in self._action.sizes]
        return np.concatenate(parts, -1)


class AgentPolicy:
    """An agent with its memory of the running episodes.

    Args:
        player: the part of the agent that acts.
        deterministic: take the actor's mode, as in evaluation.
        generator: of the agent's samples; None is its own.
    """

    def __init__(self, player: Player, deterministic: bool = False, generator: torch.Generator | None = None) -> None:
        self._player = player
        self._deterministic = deterministic
        self._generator = generator
        self._state: ActState | None = None

    def __call__(self, step: Step) -> Actions:
        """Act, and remember."""
        action, self._state = self._player.act(step, self._state, self._deterministic, generator=self._generator)
        return action


class Episode(NamedTuple):
    """A finished episode."""

    return_: float
    """Sum of its raw rewards."""
    length: int
    """Agent steps."""


class Collected(NamedTuple):
    """One agent step in every environment."""

    steps: list[tuple[Step, NDArray[np.bool_]]]
    """For `Replay.add`: first steps of new episodes, if any began, then the step itself; each with its new rows."""
    episodes: list[tuple[int, Episode]]
    """Those that ended with this step, each with the number of its environment."""


class Collector:
    """Steps environments.

    Args:
        env: the environments.
    """

    def __init__(self, env: BatchedEnv) -> None:
        self._env = env
        self._latest: Step | None = None
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, int)

    def collect(self, policy: Policy) -> Collected:
        """Take one agent step in every environment, after resetting those whose episode is over."""
        everyone = np.ones(self._env.num_envs, bool)
        over = everyone if self._latest is None else self._latest["is_last"]
        steps = []
        if over.any():
            self._latest = self._env.reset(over)
            # The action that led into an episode's first step is zero (SPEC 1).
            steps.append(({**self._latest, "action": np.zeros(self._action_shape, np.float32)}, over))
            self._returns[over] = 0
            self._lengths[over] = 0
        assert self._latest is not None
        action = policy(self._latest)
        self._latest = self._env.step(action)
        steps.append(({**self._latest, "action": action}, everyone))
        self._returns += self._latest["reward"]
        self._lengths += 1
        ended = np.flatnonzero(self._latest["is_last"]).tolist()
        return Collected(steps, [(i, Episode(float(self._returns[i]), int(self._lengths[i]))) for i in ended])

    @property
    def _action_shape(self) -> tuple[int, int]:
        return self._env.num_envs, self._env.spec.action.size


@dataclass
class Block:
    """Steps that were taken one after the other, and that nobody has been told of yet."""

    collected: list[Collected] = field(default_factory=list)
    seconds: float = 0.0
    """That it took."""
    error: Exception | None = None
    """What ended it early; the steps before it count."""


def collect_block(collector: Collector, policy: Policy, count: int, stop: Callable[[], bool]) -> Block:
    """Take `count` steps in every environment; fewer where one fails, or `stop()` is true after a step."""
    start = time.perf_counter()
    block = Block()
    try:
        while len(block.collected) < count:
            block.collected.append(collector.collect(policy))
            if stop():
                break
    except Exception as error:
        block.error = error
    block.seconds = time.perf_counter() - start
    return block
