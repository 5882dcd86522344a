"""Number of environment failures within an hour, and the limit that ends a run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from reverie.errors import EnvError

WINDOW = 3600.0
"""Seconds within which failures are counted."""


@dataclass(eq=False)
class FailureBudget:
    """Failures of environments that were restarted."""

    allowed: int
    """Failures within an hour, or in a row, that do not end the run."""
    clock: Callable[[], float] = time.monotonic
    _times: list[float] = field(default_factory=list)
    _in_a_row: int = 0

    def record(self, error: EnvError, consequence: str) -> str:
        """Return a message with a failure and its consequence, or raise EnvError where there were more than allowed."""
        now = self.clock()
        self._times = [then for then in self._times if now - then < WINDOW] + [now]
        self._in_a_row += 1
        count = max(len(self._times), self._in_a_row)
        if count > self.allowed:
            raise EnvError(
                f"{error} This was failure {count} within an hour or in a row, and env.max_restarts_per_hour is "
                f"{self.allowed}."
            ) from error
        return f"{error} {consequence} (failure {count} of the {self.allowed} that env.max_restarts_per_hour allows)"

    def record_success(self) -> None:
        """Note a step, which ends a row of failures."""
        self._in_a_row = 0
