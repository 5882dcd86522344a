"""Counters of a run."""

import hashlib
import time
from dataclasses import dataclass, field
from types import NoneType


@dataclass
class Counters:
    """Counts of a run, all of which a checkpoint holds."""

    steps: int = 0
    """Agent steps in all environments together; resets are not counted (SPEC 40)."""
    frames: int = 0
    """Environment frames: agent steps times the action repeat."""
    episodes: int = 0
    """Finished training episodes, prefill included."""
    updates: int = 0
    """Those of the world model alone included."""
    imported_steps: int = 0
    """Steps of recorded episodes that the run began with."""
    seconds: float = 0.0
    """Wall time of the run, over all its parts."""
    pretraining_updates: int = 0
    is_pretrained: bool = False
    """True once prefill and pretraining are done."""
    pending_updates: int = 0
    """Updates that are due for steps which were kept when the run was resumed."""
    evaluations: int = 0
    evaluated_at: int = 0
    """Steps at the latest evaluation."""
    best_score: float | None = None
    """Highest mean return of an evaluation."""
    finished_at: int = 0
    """Steps at which the run last finished, with its final evaluation, video and row of metrics."""
    averages_at: int = -1
    """Steps at the latest row of metrics with averages."""
    is_row_due: bool = False
    """True while the updates of the pretraining wait for their last row of metrics."""
    rows: int = 0
    """Rows in `metrics.jsonl`."""
    rows_sha256: str = hashlib.sha256().hexdigest()
    videos: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each video file by name."""
    restarts: int = 0
    """Environments that were restarted after a failure."""
    nonfinite_updates: int = 0
    """Updates in which an optimizer was skipped, because a loss or its gradients were not finite."""
    nonfinite_in_a_row: int = 0
    last_due: dict[str, int | None] = field(default_factory=dict)
    """State of each `Every`, by name."""

    def __post_init__(self) -> None:
        """Raise TypeError for values of other types, which a damaged checkpoint may hold."""
        for name, value in vars(self).items():
            default = getattr(Counters, name, None)  # None for `best_score` and the dictionaries
            is_number = type(value) in (int, float)
            if type(value) is not type(default) and not (is_number and type(default) in (float, NoneType)):
                values = value.values() if isinstance(value, dict) else [[]]
                wanted = {"videos": (str,), "last_due": (int, NoneType)}.get(name, ())
                if not all(type(each) in wanted for each in values):
                    raise TypeError(f"counters.{name} is {value!r}")

    def start_clock(self) -> None:
        """Let `seconds` advance from here."""
        self._start = time.monotonic() - self.seconds

    def tick(self) -> None:
        """Set `seconds` to the wall time of now."""
        self.seconds = time.monotonic() - self._start

    @property
    def updates_between_steps(self) -> int:
        """Updates made while steps do not advance, in pretraining; 0 in training."""
        return 0 if self.is_pretrained else self.pretraining_updates
