"""Workers step some of the environments of a `VectorEnv`."""

import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np

from reverie.envs.step_wrapper import StepWrapper
from reverie.errors import EnvError
from reverie.specs import STEP_KEYS, Array, EnvSpec, Step

EnvBuilder = Callable[[], StepWrapper]
"""Function that creates one environment; sent to worker processes by cloudpickle."""
Rows = dict[str, Any]
"""Entries of a step by key, each with a row for each environment, as an array or a list."""
Answer = tuple[Rows, dict[int, dict[str, Any]]]
"""Rows of the environments that were reset or stepped; the `info` of each whose episode ended, by its index."""


class Worker(ABC):
    """Interface to `num_envs` environments. One `receive` follows each `send`; `call` is used between such pairs."""

    num_envs: int

    @abstractmethod
    def wait_ready(self) -> EnvSpec:
        """Wait until the environments exist and return their spec."""

    @abstractmethod
    def send(self, method: Literal["reset", "step"], argument: Array) -> None:
        """Begin to reset the environments in a mask `[n]`, or to step all of them with actions `[n, A]`."""

    @abstractmethod
    def receive(self) -> Answer | None:
        """Return the result; None if an environment failed and all of them are restarted at the next reset."""

    @abstractmethod
    def call(self, index: int, method: str, *args: Any) -> Any:
        """Return the result of a method of one environment's `StepWrapper`."""

    @abstractmethod
    def close(self) -> None:
        """Close the environments."""

    def pop_errors(self) -> list[EnvError]:
        """Return the failures since the last call after which environments were restarted."""
        return []


class SyncWorker(Worker):
    """Environments stepped one after the other in this process; each worker process holds one, too."""

    def __init__(self, builders: Sequence[EnvBuilder]) -> None:
        self._envs: list[StepWrapper] = []
        try:
            for build in builders:
                self._envs.append(build())
        except BaseException:
            self.close()
            raise
        self.num_envs = len(self._envs)

    def wait_ready(self) -> EnvSpec:  # noqa: D102
        return self._envs[0].spec

    def send(self, method: Literal["reset", "step"], argument: Array) -> None:  # noqa: D102
        self._request = method, argument

    def receive(self) -> Answer:  # noqa: D102
        method, argument = self._request
        if method == "reset":
            steps = [self._envs[index].reset() for index in np.flatnonzero(argument)]
        else:
            steps = [env.step(action) for env, action in zip(self._envs, argument, strict=True)]
        infos = {i: dict(self._envs[i].last_info) for i, step in enumerate(steps) if step["is_last"]}
        return {key: [step[key] for step in steps] for key in steps[0]}, infos

    def call(self, index: int, method: str, *args: Any) -> Any:  # noqa: D102
        return getattr(self._envs[index], method)(*args)

    def close(self) -> None:  # noqa: D102
        for env in self._envs:
            env.close()


class RestartingWorker(Worker):
    """A worker that is replaced by a new one at the first reset after a failure; all its environments restart then.

    An error before the first success is raised: such environments would never work.

    Args:
        start: creates a worker, given the number of those before it.
    """

    def __init__(self, start: Callable[[int], Worker]) -> None:
        self._start = start
        self._worker: Worker | None = start(0)
        self._num_restarts = 0
        self.num_envs = self._worker.num_envs
        self._has_worked = False
        self._errors: list[EnvError] = []

    def wait_ready(self) -> EnvSpec:  # noqa: D102
        assert self._worker is not None
        return self._worker.wait_ready()

    def send(self, method: Literal["reset", "step"], argument: Array) -> None:  # noqa: D102
        if self._worker is None and method == "reset":
            self._num_restarts += 1
            try:
                self._worker = self._start(self._num_restarts)
                self._worker.wait_ready()
            except EnvError as error:
                self._fail(error)
        if self._worker is not None:
            self._worker.send(method, argument)

    def receive(self) -> Answer | None:  # noqa: D102
        if self._worker is None:
            return None
        try:
            answer = self._worker.receive()
        except EnvError as error:
            self._fail(error)
            return None
        self._has_worked = True
        return answer

    def call(self, index: int, method: str, *args: Any) -> Any:  # noqa: D102
        if self._worker is None:
            raise EnvError("The environments have failed. They restart at the next reset. Call reset first.")
        result = self._worker.call(index, method, *args)
        self._has_worked = True
        return result

    def pop_errors(self) -> list[EnvError]:  # noqa: D102
        errors, self._errors = self._errors, []
        return errors

    def close(self) -> None:  # noqa: D102
        if self._worker is not None:
            self._worker.close()

    def _fail(self, error: EnvError) -> None:
        if not self._has_worked:
            raise error
        self._errors.append(error)
        with suppress(Exception):  # an environment that has failed may fail to close, too
            self.close()
        self._worker = None


def allocate_rows(spec: EnvSpec, num_envs: int, memory_file: int | None = None) -> Step:
    """Return arrays `[n, …]` for what environments return, zero at first.

    Args:
        spec: of the environments.
        num_envs: n.
        memory_file: descriptor of a file whose memory the arrays share with other processes.
    """
    entries = {**spec.observations, **STEP_KEYS}
    dtype = np.dtype([(key, entry.dtype, entry.shape) for key, entry in entries.items()], align=True)
    size = num_envs * dtype.itemsize
    if memory_file is not None:
        os.ftruncate(memory_file, size)
    rows = np.frombuffer(bytearray(size) if memory_file is None else mmap.mmap(memory_file, size), dtype)
    return {key: rows[key] for key in entries}
