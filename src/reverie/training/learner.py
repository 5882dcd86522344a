"""Updates of the agent with batches from the replay."""

from collections.abc import Iterator, Mapping
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from reverie.dreamer import Dreamer
from reverie.dreamer.agent import NONFINITE
from reverie.replay import ReplayBuffer
from reverie.training.counters import Counters
from reverie.training.memory import explained
from reverie.training.metrics import Metrics
from reverie.training.nonfinite import NonFiniteGuard
from reverie.training.prefetch import Prefetcher


class Learner:
    """Samples batches and updates the agent with them.

    Args:
        agent: the agent.
        replay: source of the batches.
        rng: source of their draws.
        counters: its `updates` follow those of the agent.
        metrics: averages of what the updates return, and their time.
        guard: counts non-finite updates.
    """

    def __init__(
        self,
        agent: Dreamer,
        replay: ReplayBuffer,
        rng: np.random.Generator,
        counters: Counters,
        metrics: Metrics,
        guard: NonFiniteGuard,
    ) -> None:
        self._agent, self._counters, self._metrics, self._guard = agent, counters, metrics, guard
        self._prefetcher = Prefetcher(lambda out: replay.sample(rng, out), agent.device)

    def updates(self, count: int, is_world_model_only: bool = False) -> Iterator[Mapping[str, Tensor]]:
        """Make `count` updates.

        Args:
            count: number of updates.
            is_world_model_only: leave actor and critic alone.

        Yields:
            Metrics of each update, tensors of one element.

        Raises:
            Diverged: after too many non-finite updates in a row.
        """
        metrics, agent = self._metrics, self._agent
        with explained(agent.config), closing(self._prefetcher.batches(count)) as batches:
            for _ in range(count):
                with metrics.timer("sample"):
                    batch = next(batches)
                with metrics.timer("learn"):
                    self._guard.before_update(batch, is_world_model_only)
                    result = agent.train_world_model(batch) if is_world_model_only else agent.train_step(batch)
                    is_skipped = result.pop(NONFINITE)
                    metrics.add(result, unless=is_skipped)
                    self._guard.after_update(result, is_skipped)
                self._counters.updates = agent.updates
                metrics.add({"perf/threads": torch.get_num_threads()})
                metrics.count("updates")
                yield result

    def close(self) -> None:
        """End the thread that samples."""
        self._prefetcher.close()
