"""Restart environments that raise, hang or die."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from reverie.envs.workers import Answer, Worker
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec


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
        return self._running().wait_ready()

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
        result = self._running().call(index, method, *args)
        self._has_worked = True
        return result

    def pop_errors(self) -> list[EnvError]:  # noqa: D102
        errors, self._errors = self._errors, []
        return errors

    def close(self) -> None:  # noqa: D102
        if self._worker is not None:
            self._worker.close()

    def _running(self) -> Worker:
        if self._worker is None:
            raise EnvError("The environments have failed. They restart at the next reset. Call reset first.")
        return self._worker

    def _fail(self, error: EnvError) -> None:
        if not self._has_worked:
            raise error
        self._errors.append(error)
        worker, self._worker = self._worker, None
        if worker is not None:
            with suppress(Exception):  # an environment that has failed may fail to close, too
                worker.close()
