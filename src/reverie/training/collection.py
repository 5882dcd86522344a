"""Steps from the collector into the replay and all counts."""

from collections.abc import Callable
from dataclasses import dataclass, field

from reverie.dreamer import Dreamer
from reverie.replay import ReplayBuffer
from reverie.training.callbacks import CallbackList
from reverie.training.collectors import Policy, SyncCollector, Transition
from reverie.training.counters import Counters
from reverie.training.failure_budget import FailureBudget
from reverie.training.metrics import Metrics


@dataclass(eq=False)
class Collection:
    """Collects steps and stores them."""

    collector: SyncCollector
    replay: ReplayBuffer
    counters: Counters
    metrics: Metrics
    agent: Dreamer
    """Its schedules follow the steps."""
    callbacks: CallbackList
    budget: FailureBudget
    log: Callable[[str], None]
    _latest: list[Transition] = field(default_factory=list)

    def step(self, policy: Policy, max_steps: int) -> None:
        """Take the next steps, at most `max_steps`; asynchronous collection starts them, and `flush` stores them."""
        with self.metrics.timer(self.collector.phase):
            transitions = self.collector.step(policy, max_steps)
        self._store(transitions)

    def flush(self) -> None:
        """Store the steps that are under way."""
        with self.metrics.timer(self.collector.phase):
            transitions = self.collector.flush()
        self._store(transitions)

    def pop_transitions(self) -> list[Transition]:
        """Return the steps stored since the last call."""
        latest, self._latest = self._latest, []
        return latest

    def _store(self, transitions: list[Transition]) -> None:
        counters, frames_per_step = self.counters, self.collector.frames_per_step
        for transition in transitions:
            with self.metrics.timer("replay"):
                for step, mask in transition.steps:
                    self.replay.add(step, mask)
                if transition.failed:
                    self.replay.truncate_episodes(transition.failed)
            counters.steps += transition.num_steps
            counters.frames = counters.steps * frames_per_step
            counters.episodes += len(transition.episodes)
            self.metrics.count("frames", transition.num_steps * frames_per_step)
            self.metrics.spend("collect", transition.seconds)
        self.agent.agent_steps = counters.steps
        self._latest += transitions
        # Only when everything is stored: each of these may end the run.
        for transition in transitions:
            for episode in transition.episodes:
                self.callbacks.on_episode(episode)
            if transition.num_steps:
                self.budget.record_success()
            for error in transition.errors:
                counters.restarts += 1
                self.log(self.budget.record(error, "It was restarted; its episode counts as truncated."))
