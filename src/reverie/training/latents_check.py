"""Message about a world model whose latent states carry nothing."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from reverie.specs import Step
from reverie.training.callbacks import Callback, Run
from reverie.training.counters import Counters

FIRST_CHECK = 2_000
"""Updates before the first check; each further one comes after four times as many."""
UNUSED_KL = 0.5
"""KL in nats below which less than a bit of an observation reaches the latents."""
UNUSED_ERROR = 0.9
"""Share of the mean observation's error above which the decoder has learned little else than that observation."""


@dataclass(eq=False)
class LatentsCheck(Callback):
    """Prints a message where the latents carry nothing, as finding `posterior-collapse` of `reverie diagnose` does.

    The KL alone does not tell: it is small, too, where the prior predicts all that the latents carry. The decoder's
    error must also be as large as that of the mean observation.
    """

    sample: Callable[[np.random.Generator], Step]
    """Draws a batch from the replay."""
    next_check: int = FIRST_CHECK
    """Updates at which it is checked next."""
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    """Source of the batch that the error is measured on; the run's own is not read."""

    @override
    def on_start(self, run: Run) -> None:
        self.run = run
        while self.next_check <= run.agent.updates:
            self.next_check *= 4

    @override
    def on_update(self, counters: Counters, metrics: Mapping[str, Tensor]) -> None:
        updates = self.run.agent.updates
        if updates < self.next_check:
            return
        self.next_check *= 4
        kl = float(metrics["model/kl"])
        if kl < UNUSED_KL and self.relative_error(metrics) > UNUSED_ERROR:
            self.run.log(
                f"After {updates:,} updates the latents carry nothing (KL {kl:.2g} nats), and the actor learns in an "
                f"average world. Raise {self._option()}, or lower --world-model.kl.scale."
            )

    def relative_error(self, metrics: Mapping[str, Tensor]) -> float:
        """Return the decoder's squared error over that of the mean observation of a batch."""
        agent = self.run.agent
        steps_by_key = {key: torch.from_numpy(rows).to(agent.device) for key, rows in self.sample(self._rng).items()}
        batch = agent.world_model.preprocess(steps_by_key)
        error = variance = 0.0
        for key in self._keys:
            steps = batch[key].flatten(0, 1).flatten(1)
            variance += float(steps.var(0, correction=0).sum()) / 2
            error += float(metrics[f"model/{key}_loss"]) - steps.shape[1] * math.log(2 * math.pi) / 2
        return error / variance if variance else 0.0

    @property
    def _keys(self) -> list[str]:
        keys = self.run.agent.world_model.decoder.keys
        return [*keys.images, *keys.vectors]

    def _option(self) -> str:
        kind = "image" if self.run.agent.world_model.decoder.keys.images else "vector"
        return f"--world-model.loss-scales.{kind}"
