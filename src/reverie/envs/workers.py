"""Workers step some of the environments of a `VectorEnv`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from reverie.envs.step_wrapper import StepWrapper
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec

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
        infos = {index: dict(self._envs[index].last_info) for index, step in enumerate(steps) if step["is_last"]}
        return {key: [step[key] for step in steps] for key in steps[0]}, infos

    def call(self, index: int, method: str, *args: Any) -> Any:  # noqa: D102
        return getattr(self._envs[index], method)(*args)

    def close(self) -> None:  # noqa: D102
        for env in self._envs:
            env.close()
