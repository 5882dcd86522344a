"""Collection in a thread of its own, during the updates."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import torch
from typing_extensions import override

from reverie import kernels
from reverie.acting import AgentPolicy
from reverie.dreamer import Dreamer
from reverie.envs import VectorEnv
from reverie.specs import Step
from reverie.training.collectors import CollectorState, Policy, SyncCollector, Transition

CLOSE_TIMEOUT = 5.0
"""Seconds that closing waits for environments that hang."""

Result = TypeVar("Result")


class AsyncCollector(SyncCollector):
    """Takes the next steps while the learner updates the agent with the latest ones.

    `step` starts a block of so many steps in every environment, with the policy's weights of now, and `flush` waits for
    it. What is computed does not depend on timing. Environments are created and called in the collector's thread, since
    what an environment renders with often belongs to a thread.
    """

    phase = "wait"

    def __init__(self, make_env: Callable[[], VectorEnv], block: int, device: torch.device) -> None:
        self._block = block
        self._thread = EnvThread(device)
        self._pending: Future[list[Transition]] | None = None
        self._error: Exception | None = None
        try:
            super().__init__(self._thread.submit(make_env).result())
        except BaseException:
            self._thread.close()
            raise

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
    def state(self) -> CollectorState | None:
        return self._thread.submit(super().state).result()

    @override
    def restore(self, state: CollectorState, episodes: Sequence[Callable[[], Iterator[Step]]]) -> list[str]:
        return self._thread.submit(partial(super().restore, state, episodes)).result()

    @override
    def close(self) -> None:
        """Close the environments; those that hang are left to the end of the process."""
        with suppress(TimeoutError):
            self._thread.submit(super().close).result(CLOSE_TIMEOUT)
        self._thread.close()


class CopiedPolicy(AgentPolicy):
    """Acts with its own copy of the agent's weights while the agent learns."""

    def __init__(self, agent: Dreamer) -> None:
        super().__init__(agent, policy=kernels.optimize(agent.recurrent_policy.clone()))
        self._agent = agent

    def refresh(self) -> None:
        """Copy the agent's weights."""
        self.policy.load_weights(self._agent.recurrent_policy)


class EnvThread:
    """A thread that calls functions one after the other.

    There PyTorch computes with one CPU thread, since a second team of them would fight with the learner's for the same
    cores, and on a GPU in a stream of its own, in which a call begins when what the caller has queued is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._calls: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        # A daemon: an environment that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._serve, name="environments", daemon=True)
        # A thread takes over the number that any thread has set last, at its first question. So this one asks before it
        # sets its own, and the caller's is set again afterwards.
        threads = torch.get_num_threads()
        self._thread.start()
        self.submit(torch.get_num_threads).result()
        self.submit(partial(torch.set_num_threads, 1)).result()
        torch.set_num_threads(threads)

    def submit(self, function: Callable[[], Result]) -> "Future[Result]":
        """Call a function in the thread, and return at once."""
        future: Future[Result] = Future()
        queued = torch.cuda.current_stream(self._device).record_event() if self._stream else None
        self._calls.put((function, future, queued))
        return future

    def close(self) -> None:
        """End the thread; one whose call does not end is left behind."""
        self._calls.put(None)
        self._thread.join(CLOSE_TIMEOUT)

    def _serve(self) -> None:
        stream: Any = torch.cuda.stream(self._stream) if self._stream else nullcontext()
        # The end of a thread's outermost autocast empties the cache of converted weights of all threads, and the
        # learner would convert again, at moments that depend on timing. Here the outermost one never ends.
        with stream, torch.autocast(self._device.type, enabled=False):
            while (call := self._calls.get()) is not None:
                self._run(*call)

    def _run(self, function: Callable[[], Result], future: "Future[Result]", queued: torch.cuda.Event | None) -> None:
        try:
            if self._stream and queued:
                self._stream.wait_event(queued)
            result = function()
            if self._stream:
                self._stream.synchronize()
            future.set_result(result)
        except BaseException as error:
            future.set_exception(error)
