"""Steps from environments, taken between the updates."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from reverie.acting import AgentPolicy
from reverie.collectors.collector import LATEST, CollectorState, Episode, Mask, Policy, Transition
from reverie.dreamer import Dreamer
from reverie.envs import VectorEnv
from reverie.specs import Step


class SyncCollector:
    """Takes one step in every environment at each call."""

    phase = "collect"
    """Name of the time that the learner spends in `step`."""

    def __init__(self, env: VectorEnv) -> None:
        self._env = env
        self.spec, self.num_envs, self.frames_per_step = env.spec, env.num_envs, env.frames_per_step
        self._latest: Step = {}
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, int)

    def step(self, policy: Policy, max_steps: int = 1) -> list[Transition]:
        """Take one agent step in every environment, after resetting those whose episode has ended."""
        steps = []
        if (mask := self._env.needs_reset).any():
            self._latest = self._env.reset(mask)
            steps.append(self._begin(mask & ~self._env.failed))
        action = policy(self._latest)
        self._latest = step = self._env.step(action)
        failed = self._env.failed
        if (began := step["is_first"]).any():  # of environments that reset themselves
            steps.append(self._begin(began & ~failed))
        taken = ~(began | failed)
        steps.append(({**step, "action": action}, taken))
        self._returns += step["reward"]
        self._lengths += taken
        episodes = [
            Episode(float(self._returns[i]), int(self._lengths[i]), self._env.infos[i], i)
            for i in np.flatnonzero(step["is_last"] & taken).tolist()
        ]
        return [Transition(steps, episodes, np.flatnonzero(failed).tolist(), self._env.pop_errors())]

    def _begin(self, began: Mask) -> tuple[Step, Mask]:
        """Begin episodes in some environments with their latest step."""
        self._returns[began] = 0
        self._lengths[began] = 0
        # The action that led into an episode's first step is zero (SPEC 1).
        return {**self._latest, "action": np.zeros((self.num_envs, self.spec.action.size), np.float32)}, began

    def flush(self) -> list[Transition]:
        """Wait for steps that are under way, and return them; here there are none."""
        return []

    def make_policy(self, agent: Dreamer) -> AgentPolicy:
        """Return a policy with the agent's own weights."""
        return AgentPolicy(agent, policy=agent.collecting_policy)

    def state(self) -> CollectorState | None:
        """Return the states of the environments, None where one failed; raise EnvError where one cannot save it."""
        if not self._env.is_usable or not self._latest:
            return None
        latest = {LATEST + key: rows for key, rows in self._latest.items()}
        return CollectorState(self._env.get_states(), {**latest, "returns": self._returns, "lengths": self._lengths})

    def restore(self, state: CollectorState, episodes: Sequence[Callable[[], Iterator[Step]]]) -> list[str]:
        """Restore the states of new environments, and return for each why that failed; empty if it did not."""
        arrays = {name: rows.copy() for name, rows in state.arrays.items()}
        self._returns, self._lengths = arrays.pop("returns"), arrays.pop("lengths")
        self._latest = {name.removeprefix(LATEST): rows for name, rows in arrays.items()}
        return self._env.set_states(state.envs, self._latest, episodes)

    def close(self) -> None:
        """Close the environments."""
        self._env.close()
