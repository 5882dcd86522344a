"""Environments of one process, stepped one after the other."""

import mmap
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reverie.envs.step_wrapper import StepWrapper
from reverie.specs import STEP_KEYS, Array, EnvSpec, Step

EnvBuilder = Callable[[], StepWrapper]
"""Function that creates one environment; sent to worker processes by cloudpickle."""
Infos = dict[int, dict[str, Any]]
"""The `info` of each environment whose episode ended, by its index."""


class SyncWorker:
    """Environments stepped one after the other in this process; each worker process holds one, too.

    `ProcessWorker` has the same interface: one `receive` follows each `send`.

    Args:
        builders: create the environments.
        memory_file: descriptor of a file whose memory `rows` share with another process.

    Attributes:
        rows: latest steps `[n, …]`.
    """

    def __init__(self, builders: Sequence[EnvBuilder], memory_file: int | None = None) -> None:
        self._envs: list[StepWrapper] = []
        try:
            for build in builders:
                self._envs.append(build())
        except BaseException:
            self.close()
            raise
        self.rows = allocate_rows(self.wait_ready(), len(self._envs), memory_file)

    def wait_ready(self) -> EnvSpec:
        """Wait until the environments exist and return their spec."""
        return self._envs[0].spec

    def send(self, method: str, *args: Any) -> None:
        """Begin `reset`, `step` or `call`."""
        self._request = method, args

    def receive(self) -> Any:
        """Return its result."""
        method, args = self._request
        return getattr(self, method)(*args)

    def reset(self, mask: Array) -> Infos:
        """Reset the environments in a mask `[n]`."""
        return self._store({index: self._envs[index].reset() for index in np.flatnonzero(mask).tolist()})

    def step(self, actions: Array) -> Infos:
        """Step every environment with actions `[n, A]`."""
        return self._store({index: env.step(actions[index]) for index, env in enumerate(self._envs)})

    def call(self, index: int, method: str, *args: Any) -> Any:
        """Return the result of a method of one environment's `StepWrapper`."""
        return getattr(self._envs[index], method)(*args)

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()

    def _store(self, steps: dict[int, dict[str, Any]]) -> Infos:
        for index, step in steps.items():
            for key, value in step.items():
                self.rows[key][index] = value
        return {index: dict(self._envs[index].last_info) for index, step in steps.items() if step["is_last"]}


def allocate_rows(spec: EnvSpec, num_envs: int, memory_file: int | None = None) -> Step:
    """Return arrays `[n, …]` for what environments return, zero at first; in the memory of a file if there is one."""
    entries = {**spec.observations, **STEP_KEYS}
    dtype = np.dtype([(key, entry.dtype, entry.shape) for key, entry in entries.items()], align=True)
    size = num_envs * dtype.itemsize
    if memory_file is not None:
        os.ftruncate(memory_file, size)
    rows = np.frombuffer(bytearray(size) if memory_file is None else mmap.mmap(memory_file, size), dtype)
    return {key: rows[key] for key in entries}
