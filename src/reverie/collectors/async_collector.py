"""Collection in a thread of its own, during the updates."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial

import torch
from typing_extensions import override

from reverie import kernels
from reverie.acting import AgentPolicy
from reverie.collectors.collector import CollectorState, Policy, Transition
from reverie.collectors.env_thread import EnvThread
from reverie.collectors.sync_collector import SyncCollector
from reverie.dreamer import Dreamer
from reverie.envs import VectorEnv
from reverie.specs import Step


class AsyncCollector(SyncCollector):
    """Takes the next steps while the learner updates the agent with the latest ones.

    `step` starts a block of so many steps in every environment, with the policy's weights of now, and `flush` waits for
    it. What is computed does not depend on timing. Environments are created and called in the collector's thread, since
    what an environment renders with often belongs to a thread.

    Args:
        make_env: creates the environments.
        train_every: steps of a block, in all environments together; rounded up to whole ones.
        device: that of the policy.
    """

    phase = "wait"

    def __init__(self, make_env: Callable[[], VectorEnv], train_every: int, device: torch.device) -> None:
        self._thread = EnvThread(device)
        self._pending: Future[list[Transition]] | None = None
        self._error: Exception | None = None
        try:
            super().__init__(self._thread.submit(make_env).result())
        except BaseException:
            self._thread.close()
            raise
        self._block = math.ceil(train_every / self.num_envs)

    @override
    def step(self, policy: Policy, max_steps: int = 1) -> list[Transition]:
        """Start the next steps; raise the error that ended the latest ones."""
        if self._error is not None:
            raise self._error
        if isinstance(policy, CopiedPolicy):
            policy.refresh()
        count = min(self._block, math.ceil(max_steps / self.num_envs))
        self._pending = self._thread.submit(lambda: self._collect(policy, count))
        return []

    def _collect(self, policy: Policy, count: int) -> list[Transition]:
        """Take `count` steps in every environment; fewer where one fails, with the error left for the next call."""
        collected: list[Transition] = []
        try:
            for _ in range(count):
                start = time.perf_counter()
                (transition,) = super().step(policy)
                transition.seconds = time.perf_counter() - start
                collected.append(transition)
        except Exception as error:
            self._error = error
        return collected

    @override
    def flush(self) -> list[Transition]:
        pending, self._pending = self._pending, None
        return pending.result() if pending else []

    @override
    def make_policy(self, agent: Dreamer) -> AgentPolicy:
        return CopiedPolicy(agent)

    @override
    def state(self) -> CollectorState | None:
        return self._thread.submit(super().state).result()

    @override
    def restore(self, state: CollectorState, episodes: Sequence[Callable[[], Iterator[Step]]]) -> list[str]:
        return self._thread.submit(partial(super().restore, state, episodes)).result()

    @override
    def close(self) -> None:
        """Close the environments; those that hang are left to the end of the process."""
        closing = self._thread.submit(super().close)
        self._thread.close()
        if closing.done():
            closing.result()


class CopiedPolicy(AgentPolicy):
    """Acts with its own copy of the agent's weights while the agent learns."""

    def __init__(self, agent: Dreamer) -> None:
        super().__init__(agent, policy=kernels.optimize(agent.collecting_policy.clone()))
        self._agent = agent

    def refresh(self) -> None:
        """Copy the agent's weights."""
        self.policy.load_weights(self._agent.collecting_policy)
