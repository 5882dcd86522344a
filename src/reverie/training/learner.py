"""Updates of the agent from batches of the replay."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from reverie.dreamer.agent import NONFINITE
from reverie.training import watchdog
from reverie.training.memory import explained
from reverie.training.prefetch import Prefetcher
from reverie.training.run_state import RunState
from reverie.training.skips import Skips


class Learner:
    """Draws batches and has the agent learn from them.

    Args:
        parts: the run's agent, replay, metrics and counters.
        watching: is told what comes next.
        failures: folder for updates that cannot be made.
        log: shows a line to the user.
    """

    def __init__(
        self,
        parts: RunState,
        watching: watchdog.Watchdog,
        failures: Path,
        log: Callable[[str], None],
    ) -> None:
        self._parts, self._watching = parts, watching
        self._prefetcher = Prefetcher(lambda out: parts.replay.sample(parts.sample_rng, out), parts.agent.device)
        self._skips = Skips(parts, failures, log)

    def learn(self, count: int, world_model_alone: bool = False) -> None:
        """Make this many updates.

        Raises:
            Diverged: if too many in a row had to be skipped.
        """
        metrics = self._parts.metrics
        with explained(self._parts.agent.config), closing(self._prefetcher.batches(count)) as batches:
            for _ in range(count):
                self._watching.wait_for(watchdog.BATCH)
                with metrics.timer("sample"):
                    batch = next(batches)
                self._watching.wait_for(watchdog.UPDATE)
                with metrics.timer("learn"):
                    self._skips.before(batch, world_model_alone)
                    agent = self._parts.agent
                    found = agent.train_world_model(batch) if world_model_alone else agent.train_step(batch)
                    skipped = found.pop(NONFINITE)
                    metrics.add(found, unless=skipped)
                    self._skips.after(found, skipped)
                metrics.add({"speed/threads": torch.get_num_threads()})
                metrics.count("updates")

    def settle(self) -> None:
        """Let everything about the updates so far be in the run's counters."""
        self._skips.settle()

    def close(self) -> None:
        """End the thread that draws batches."""
        self._prefetcher.close()
