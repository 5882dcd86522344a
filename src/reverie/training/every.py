"""When something is due, by agent steps or, while they do not advance, by updates."""

from dataclasses import dataclass

from reverie.config import TrainingConfig
from reverie.training.counters import Counters


@dataclass
class Every:
    """Due at the first question, and then once for every `period` steps (SPEC 42; golden file 16).

    When several environments are stepped together the count of steps makes jumps; nothing that falls due within one is
    lost, so that ratios do not depend on the number of environments.
    """

    period: int
    """0 is never due."""
    last: int | None = None
    """Steps at which it was due last, a multiple of `period` after the first time."""

    def __call__(self, step: int) -> int:
        """Return how many times it is due at this step."""
        if self.period == 0:
            return 0
        if self.last is None:
            self.last = step
            return 1
        times = max(0, (step - self.last) // self.period)
        self.last += times * self.period
        return times


def is_due_between_steps(counters: Counters, settings: TrainingConfig, period: int) -> bool:
    """Return whether it is due in pretraining: after as many updates as `period` steps of training have."""
    num_updates = max(1, round(period * settings.train_steps / settings.train_every))
    return counters.updates_between_steps != 0 and counters.updates_between_steps % num_updates == 0
