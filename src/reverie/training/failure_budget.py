"""Number of environment failures within an hour, and the limit that ends a run."""

import time
from collections.abc import Callable

from reverie.errors import EnvError

WINDOW = 3600.0
"""Seconds within which failures are counted."""


class FailureBudget:
    """Failures of environments that were restarted; `allowed` of them within an hour, or in a row, do not end a run."""

    def __init__(self, allowed: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed, self._clock = allowed, clock
        self._times: list[float] = []
        self._in_a_row = 0

    def record(self, error: EnvError, consequence: str) -> str:
        """Return a message with a failure and its consequence, or raise EnvError where there were more than allowed."""
        now = self._clock()
        self._times = [then for then in self._times if now - then < WINDOW] + [now]
        self._in_a_row += 1
        count, setting = max(len(self._times), self._in_a_row), "env.max_restarts_per_hour"
        if count > self._allowed:
            message = f"{error} This was failure {count} within an hour or in a row, and {setting} is {self._allowed}."
            raise EnvError(message) from error
        return f"{error} {consequence} (failure {count} of the {self._allowed} that {setting} allows)"

    def record_success(self) -> None:
        """Note a step, which ends a row of failures."""
        self._in_a_row = 0
