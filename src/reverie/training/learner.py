"""Updates of the agent with batches from the replay."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.dreamer import Dreamer
from reverie.dreamer.agent import NONFINITE
from reverie.training.counters import Counters
from reverie.training.memory import explained
from reverie.training.metrics import Metrics
from reverie.training.nonfinite import NonFiniteGuard
from reverie.training.prefetch import Prefetcher


@dataclass(eq=False)
class Learner:
    """Updates the agent with batches from the replay."""

    agent: Dreamer
    prefetcher: Prefetcher
    counters: Counters
    metrics: Metrics
    guard: NonFiniteGuard

    def updates(self, count: int, is_world_model_only: bool = False) -> Iterator[Mapping[str, Tensor]]:
        """Make `count` updates, and yield the metrics of each; raise Diverged after too many that are not finite."""
        metrics, agent = self.metrics, self.agent
        with explained(agent.config), closing(self.prefetcher.batches(count)) as batches:
            for _ in range(count):
                with metrics.timer("sample"):
                    batch = next(batches)
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
