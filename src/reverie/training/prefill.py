"""Random steps before learning: when there are enough, and what may be wrong with them."""

from dataclasses import dataclass

from typing_extensions import override

from reverie.config import Config
from reverie.replay import ReplayBuffer
from reverie.training.callbacks import Callback, Run
from reverie.training.counters import Counters
from reverie.training.watchdog import EpisodeWatch


def is_complete(config: Config, counters: Counters) -> bool:
    """Return whether there are enough steps, and an episode if whole episodes are sampled (SPEC 41)."""
    return counters.steps >= config.training.prefill and (counters.episodes > 0 or config.replay.sampling == "steps")


@dataclass(eq=False)
class PrefillCheck(Callback):
    """Prints a message where no episode ends in the prefill, or all are too short."""

    replay: ReplayBuffer
    _num_episodes: int = 0
    _is_waiting: bool = False
    _next_check: int = 10
    """Finished episodes at which it is checked next whether all are too short."""

    @override
    def on_start(self, run: Run) -> None:
        self._watch = EpisodeWatch(run.log, "prefill", run.config.env.time_limit)

    @override
    def on_step(self, counters: Counters, transitions: object) -> None:
        if not transitions or counters.is_pretrained:
            return
        config = self.run.config
        self._watch.step(has_ended=counters.episodes > self._num_episodes)
        self._num_episodes = counters.episodes
        if counters.episodes >= self._next_check and (problem := self.replay.too_short(config.env.action_repeat)):
            self._next_check = 10 * counters.episodes
            self.run.log(f"Learning cannot begin yet: {problem}")
        is_waiting = counters.steps >= config.training.prefill and not is_complete(config, counters)
        if is_waiting and not self._is_waiting:
            self._is_waiting = True
            self.run.log(
                f"No episode has ended in {counters.steps:,} steps, and learning waits for the first one. If none will "
                "end, set --env.time-limit, or --replay.sampling steps."
            )
