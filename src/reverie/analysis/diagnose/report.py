"""Measurements of a run: rules conclude from them; page, picture and JSON show them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.analysis.diagnose.prediction import Horizons
from reverie.analysis.format import Measures, plain
from reverie.config import Config
from reverie.specs import Array

if TYPE_CHECKING:
    from reverie.analysis.diagnose.rules import Finding

DIGITS = 6  # significant digits of the JSON; a sample supports fewer


@dataclass(frozen=True)
class Report:
    """Measurements of a run."""

    run: str
    config: Config
    agent_steps: int
    updates: int
    steps_seen: int  # steps of the replay that were examined
    replay_steps: int  # steps that they were drawn from
    context: int
    latents: Measures
    predictions: dict[str, Horizons]  # by observation key, images first, and `reward`
    images: tuple[str, ...]
    rewards: Measures  # in the space of `reward_transform`
    discounts: Measures | None  # None where the discount is a constant
    values: Measures
    """`imagined` compares with lambda-returns of the present policy, as the critic is trained; `replayed` with returns
    of older policies, None if no state has enough steps after it. In the space of `reward_transform`."""
    policy: Measures
    learning: Measures
    rows: list[dict[str, float]] = field(default_factory=list, repr=False)  # of metrics.jsonl
    points: tuple[Array, Array] = field(default=(np.empty(0), np.empty(0)), repr=False)  # values, returns of states
    shared_steps: int = 0  # of a holdout: first steps that the run itself has, too, and that were left out
    holdout: "Report | None" = None  # the same model on the replay of another run

    @property
    def frames(self) -> int:
        """Environment frames so far."""
        return self.agent_steps * self.config.env.action_repeat

    @property
    def observation(self) -> str:
        """Key of the observation that findings refer to: the first image, or else the first vector; empty if none."""
        return next((key for key in self.predictions if key != "reward"), "")

    @property
    def reconstruction(self) -> float | None:
        """Error of that observation where the model has seen it, as a share of the mean observation's error."""
        return self.predictions[self.observation].share_of("mean", 0, 0) if self.observation else None

    def to_json(self, findings: Sequence["Finding"]) -> dict[str, Any]:
        """Return findings and measurements as JSON's types: numbers that are not finite are null."""
        measured = {
            **self._replay(),
            "environment": self.config.env.name,
            "agent_steps": self.agent_steps,
            "frames": self.frames,
            "updates": self.updates,
            "context": self.context,
            "findings": list(findings),
            **self._model(),
            "value": self.values,
            "actor": self.policy,
            "learning": self.learning,
            "holdout": None if self.holdout is None else {**self.holdout._replay(), **self.holdout._model()},
        }
        return dict(plain(measured, DIGITS))

    def _replay(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("run", "steps_seen", "replay_steps", "shared_steps")}

    def _model(self) -> dict[str, Any]:
        parts = {"latents": self.latents, "prediction": self.predictions, "reward": self.rewards}
        return {**parts, "discount": self.discounts}
