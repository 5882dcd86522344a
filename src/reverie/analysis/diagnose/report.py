"""What was measured on a run, in one place: rules conclude from it, page, picture and JSON show it."""

from dataclasses import dataclass, field

import numpy as np

from reverie.analysis.diagnose.calibration import Discounts, Rewards
from reverie.analysis.diagnose.latents import Latents
from reverie.analysis.diagnose.learning import Learning
from reverie.analysis.diagnose.policy import Policy
from reverie.analysis.diagnose.prediction import Horizons
from reverie.analysis.diagnose.values import Values
from reverie.config import Config
from reverie.specs import Array


@dataclass(frozen=True)
class Report:
    """What was measured on a run."""

    run: str
    config: Config
    agent_steps: int
    updates: int
    steps_seen: int
    """Steps of the replay that the measurements rest on."""
    replay_steps: int
    """Steps of the replay that they were drawn from."""
    context: int
    latents: Latents
    predictions: dict[str, Horizons]
    """By observation key, and `reward`; images first."""
    images: tuple[str, ...]
    """Which of them are images."""
    rewards: Rewards
    discounts: Discounts | None
    """None where the discount is a constant."""
    values: Values
    policy: Policy
    learning: Learning
    rows: list[dict[str, float]] = field(default_factory=list, repr=False)
    """Of `metrics.jsonl`."""
    points: tuple[Array, Array] = field(default=(np.empty(0), np.empty(0)), repr=False)
    """Values and returns of single states, for a picture."""
    shared_steps: int = 0
    """Of another run's replay: first steps that the run itself has, too, and that were left out."""
    holdout: "Report | None" = None
    """The same model on the replay of another run, which it has not learned from; None if none was given."""

    @property
    def frames(self) -> int:
        """Environment frames so far."""
        return self.agent_steps * self.config.env.action_repeat

    @property
    def observation(self) -> str:
        """The observation that findings speak of: the first image, or else the first vector; empty if none."""
        return next((key for key in self.predictions if key != "reward"), "")
