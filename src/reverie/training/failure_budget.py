"""Number of environment failures within an hour, and the limit that ends a run."""

import time
from collections.abc import Callable

from reverie.errors import EnvError

WINDOW = 3600.0
"""Seconds within which failures are counted."""


class FailureBudget:
    """Failures of environments that were restarted.

    Args:
        allowed: failures within an hour, or in a row, that do not end the run.
        clock: monotonic seconds.
    """

    def __init__(self, allowed: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.allowed = allowed
        self._clock = clock
        self._times: list[float] = []
        self._in_a_row = 0

    def record(self, error: EnvError, consequence: str) -> str:
        """Count a failure.

        Args:
            error: what happened.
            consequence: a sentence for the message.

        Returns:
            A message for the user.

        Raises:
            EnvError: if there were more than allowed.
        """
        now = self._clock()
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
