"""Random steps before learning: when there are enough, and what may be wrong with them."""

from collections.abc import Callable

from reverie.config import Config
from reverie.replay import ReplayBuffer
from reverie.training.counters import Counters
from reverie.training.watchdog import EpisodeWatch


def is_complete(config: Config, counters: Counters) -> bool:
    """Return whether there are enough steps, and an episode if whole episodes are sampled."""
    return counters.steps >= config.training.prefill and (counters.episodes > 0 or config.replay.sampling == "steps")


class Prefill:
    """Checks the steps of the prefill.

    Args:
        config: all settings.
        replay: where the steps are stored.
        log: prints a line.
    """

    def __init__(self, config: Config, replay: ReplayBuffer, log: Callable[[str], None]) -> None:
        self._config, self._replay, self._log = config, replay, log
        self._watch = EpisodeWatch(log, "prefill", config.env.time_limit)
        self._num_episodes = 0
        self._is_waiting = False
        self._next_check = 10
        """Finished episodes at which it is checked next whether all are too short."""

    def is_complete(self, counters: Counters) -> bool:
        """Return whether sequences can be sampled."""
        return is_complete(self._config, counters)

    def check_sampleable(self) -> None:
        """Raise `ReplayError` if no sequence can be sampled."""
        self._replay.check_sampleable(self._config.env.action_repeat)

    def check(self, counters: Counters) -> None:
        """Print a message where no episode ends, or all are too short."""
        self._watch.step(has_ended=counters.episodes > self._num_episodes)
        self._num_episodes = counters.episodes
        if counters.episodes >= self._next_check and (
            problem := self._replay.too_short(self._config.env.action_repeat)
        ):
            self._next_check = 10 * counters.episodes
            self._log(f"Learning cannot begin yet: {problem}")
        is_waiting = counters.steps >= self._config.training.prefill and not self.is_complete(counters)
        if is_waiting and not self._is_waiting:
            self._is_waiting = True
            self._log(
                f"No episode has ended in {counters.steps:,} steps, and learning waits for the first one. If none will "
                "end, set --env.time-limit, or --replay.sampling steps."
            )
