"""Steps from the collector into the replay and all counts."""

from collections.abc import Callable

from reverie.dreamer import Dreamer
from reverie.replay import ReplayBuffer
from reverie.training.callbacks import CallbackList
from reverie.training.collectors import Collector, Policy, Transition
from reverie.training.counters import Counters
from reverie.training.failure_budget import FailureBudget
from reverie.training.metrics import Metrics


class Collection:
    """Collects steps and stores them.

    Args:
        collector: steps the environments.
        replay: stores the steps.
        counters: counts steps, frames and episodes.
        metrics: timer of both.
        agent: its schedules follow the steps.
        callbacks: called with each episode.
        budget: counts restarted environments.
        log: prints a line.
    """

    def __init__(
        self,
        collector: Collector,
        replay: ReplayBuffer,
        counters: Counters,
        metrics: Metrics,
        agent: Dreamer,
        callbacks: CallbackList,
        budget: FailureBudget,
        log: Callable[[str], None],
    ) -> None:
        self._collector, self._replay, self._counters, self._metrics = collector, replay, counters, metrics
        self._agent, self._callbacks, self._budget, self._log = agent, callbacks, budget, log
        self._latest: list[Transition] = []

    def step(self, policy: Policy, max_steps: int) -> None:
        """Take the next steps; with asynchronous collection start them, and `flush` stores them.

        Args:
            policy: chooses the actions.
            max_steps: agent steps left, a bound for what is collected ahead.
        """
        with self._metrics.timer(self._collector.phase):
            transitions = self._collector.step(policy, max_steps)
        self._store(transitions)

    def flush(self) -> None:
        """Store the steps that are under way."""
        with self._metrics.timer(self._collector.phase):
            transitions = self._collector.flush()
        self._store(transitions)

    def pop_transitions(self) -> list[Transition]:
        """Return the steps stored since the last call."""
        latest, self._latest = self._latest, []
        return latest

    def _store(self, transitions: list[Transition]) -> None:
        counters, frames_per_step = self._counters, self._collector.frames_per_step
        for transition in transitions:
            with self._metrics.timer("replay"):
                for step, mask in transition.steps:
                    self._replay.add(step, mask)
                if transition.failed:
                    self._replay.truncate_episodes(transition.failed)
            counters.steps += transition.num_steps
            counters.frames = counters.steps * frames_per_step
            counters.episodes += len(transition.episodes)
            self._metrics.count("frames", transition.num_steps * frames_per_step)
            self._metrics.spend("collect", transition.seconds)
        self._agent.agent_steps = counters.steps
        self._latest += transitions
        # Only when everything is stored: each of these may end the run.
        for transition in transitions:
            for episode in transition.episodes:
                self._callbacks.on_episode(episode)
            if transition.num_steps:
                self._budget.record_success()
            for error in transition.errors:
                counters.restarts += 1
                self._log(self._budget.record(error, "It was restarted; its episode counts as truncated."))
