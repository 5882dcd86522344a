"""Steps from the collector into the replay and all counts."""

from collections.abc import Callable
from dataclasses import dataclass, field

from reverie.collectors.collector import Policy, Transition
from reverie.training.failure_budget import FailureBudget
from reverie.training.train_state import TrainState


@dataclass(eq=False)
class Collection:
    """Collects steps, stores and counts them."""

    state: TrainState
    budget: FailureBudget
    log: Callable[[str], None]
    _latest: list[Transition] = field(default_factory=list)

    def step(self, policy: Policy, max_steps: int) -> None:
        """Take the next steps, at most `max_steps`; asynchronous collection starts them, and `flush` stores them."""
        with self.state.metrics.timer(self.state.collector.phase):
            transitions = self.state.collector.step(policy, max_steps)
        self._store(transitions)

    def flush(self) -> None:
        """Store the steps that are under way."""
        with self.state.metrics.timer(self.state.collector.phase):
            transitions = self.state.collector.flush()
        self._store(transitions)

    def pop_transitions(self) -> list[Transition]:
        """Return the steps stored since the last call."""
        latest, self._latest = self._latest, []
        return latest

    def _store(self, transitions: list[Transition]) -> None:
        counters, metrics, replay = self.state.counters, self.state.metrics, self.state.replay
        for transition in transitions:
            with metrics.timer("replay"):
                for step, mask in transition.steps:
                    replay.add(step, mask, transition.envs)
                if transition.failed:
                    replay.truncate_episodes(transition.failed)
            self.state.count_steps(transition.num_steps, len(transition.episodes))
            metrics.count("frames", transition.num_steps * self.state.collector.frames_per_step)
            metrics.spend("collect", transition.seconds)
            if transition.policy_lag is not None:
                metrics.add({"env/policy_lag": transition.policy_lag})
        self._latest += transitions
        # Only when everything is stored: each of these may end the run.
        for transition in transitions:
            for episode in transition.episodes:
                self.state.callbacks.call("on_episode", episode)
            if transition.num_steps:
                self.budget.record_success()
            for error in transition.errors:
                counters.restarts += 1
                self.log(self.budget.record(error, "It was restarted; its episode counts as truncated."))
