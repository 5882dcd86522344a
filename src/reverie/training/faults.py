"""Number of failures of environments within an hour, and the limit that ends a run."""

import time
from collections.abc import Callable

from reverie.errors import EnvError

WITHIN = 3600.0
"""Seconds within which failures are counted."""


class FaultCount:
    """Failures of environments that were made anew.

    Args:
        allowed: how many within an hour, or in a row, before they are too many.
        clock: seconds that never go back.
    """

    def __init__(self, allowed: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.allowed = allowed
        self._clock = clock
        self._times: list[float] = []
        self._in_a_row = 0

    def forgive(self, fault: EnvError, consequence: str) -> str:
        """Count one more.

        Args:
            fault: what happened.
            consequence: of it, in a sentence.

        Returns:
            What to tell the user.

        Raises:
            EnvError: if there were too many.
        """
        now = self._clock()
        self._times = [then for then in self._times if now - then < WITHIN] + [now]
        self._in_a_row += 1
        count = max(len(self._times), self._in_a_row)
        if count > self.allowed:
            raise EnvError(
                f"{fault} This was failure {count} within an hour or in a row, and env.max_restarts_per_hour is "
                f"{self.allowed}."
            ) from fault
        return f"{fault} {consequence} (failure {count} of the {self.allowed} that env.max_restarts_per_hour allows)"

    def step_succeeded(self) -> None:
        """What comes next is not in a row with what was before."""
        self._in_a_row = 0
