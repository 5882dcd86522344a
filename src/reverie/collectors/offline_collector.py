"""A collector that collects nothing, for learning from stored steps alone."""

from collections.abc import Callable, Iterator, Sequence

from reverie.acting import AgentPolicy
from reverie.collectors.collector import CollectorState, Policy, Transition
from reverie.dreamer import Dreamer
from reverie.specs import EnvSpec, Step


class OfflineCollector:
    """Lets agent steps pass without taking any, so that updates, rows and checkpoints come when they are due.

    Args:
        spec: observations and actions of the stored steps.
        steps_at_once: agent steps that pass at each call.
        frames_per_step: of the counts.
    """

    phase = "collect"
    num_envs = 0

    def __init__(self, spec: EnvSpec, steps_at_once: int, frames_per_step: int) -> None:
        self.spec, self.frames_per_step = spec, frames_per_step
        self._steps_at_once = steps_at_once

    def step(self, policy: Policy, max_steps: int = 1) -> list[Transition]:
        """Let steps pass."""
        return [Transition([], idle_steps=min(self._steps_at_once, max_steps))]

    def flush(self) -> list[Transition]:
        """Return no steps."""
        return []

    def make_policy(self, agent: Dreamer) -> AgentPolicy:
        """Return a policy, which is not asked for actions."""
        return AgentPolicy(agent)

    def state(self) -> CollectorState | None:
        """Return None: there are no environments."""
        return None

    def restore(self, state: CollectorState, episodes: Sequence[Callable[[], Iterator[Step]]]) -> list[str]:
        """Restore nothing."""
        return []

    def close(self) -> None:
        """Close nothing."""
