"""Updates of the agent with batches from the replay."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reverie.dreamer import Dreamer
from reverie.dreamer.agent import NONFINITE
from reverie.replay import ReplayBuffer
from reverie.specs import Step
from reverie.training.counters import Counters
from reverie.training.memory import explained
from reverie.training.metrics import Metrics
from reverie.training.nonfinite import NonFiniteGuard


@dataclass(eq=False)
class Learner:
    """Updates the agent with batches from the replay."""

    agent: Dreamer
    replay: ReplayBuffer
    rng: np.random.Generator
    counters: Counters
    metrics: Metrics
    guard: NonFiniteGuard
    _arrays: Step | None = None

    def updates(self, count: int, is_world_model_only: bool = False) -> Iterator[Mapping[str, Tensor]]:
        """Make `count` updates, and yield the metrics of each; raise Diverged after too many that are not finite."""
        metrics, agent = self.metrics, self.agent
        for _ in range(count):
            with explained(agent.config):
                with metrics.timer("sample"):
                    batch = self._sample()
                with metrics.timer("learn"):
                    self.guard.before_update(batch, is_world_model_only)
                    result = agent.train_world_model(batch) if is_world_model_only else agent.train_step(batch)
                    is_skipped = result.pop(NONFINITE)
                    metrics.add(result, unless=is_skipped)
                    self.guard.after_update(result, is_skipped)
            self.counters.updates = agent.updates
            metrics.add({"perf/threads": torch.get_num_threads()})
            metrics.count("updates")
            yield result

    def _sample(self) -> dict[str, Tensor]:
        """Draw a batch into the arrays of the one before; for a GPU it is copied to pinned memory."""
        self._arrays = self.replay.sample(self.rng, self._arrays)
        batch = {name: torch.from_numpy(array) for name, array in self._arrays.items()}
        if self.agent.device.type == "cuda":
            batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
        return batch
