"""Collectors in the processes of a Ray cluster, which step environments while the learner updates the agent.

A collector takes a *segment*, so many agent steps in each of its environments, and returns it through Ray's object
store; the learner alone stores it. There are two schedules (`ray.schedule`):

- fixed: all collectors take their next segment with the weights of now, and after its updates the learner waits for all
  of them. Weights, seeds and order are functions of the run's counters and generators, so that the same seed and number
  of collectors give the same run, bit for bit.
- free: the first segment that arrives is stored, and its collector continues with the latest weights. Nothing waits for
  a slow one, until its weights would be older than `ray.max_policy_lag`. Not repeatable.

The prefill, whose actions are drawn here, follows the fixed schedule in both.
"""

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from reverie.acting import AgentPolicy
from reverie.collectors.collector import CollectorState, Policy, Transition
from reverie.config import Config
from reverie.dreamer import Dreamer
from reverie.envs import EnvFactory, InstanceFactory
from reverie.errors import ConfigError, EnvError
from reverie.provenance import reverie_version
from reverie.scaling.cluster import RayError, RayTaskError, connect, ray
from reverie.scaling.published_policy import PublishedPolicy
from reverie.scaling.remote_collector import (
    Description,
    RemoteCollector,
    Segment,
)
from reverie.specs import Step

START_SECONDS = 300.0
"""Limit of the wait until a collector exists. A cluster that grows by itself takes minutes."""
END_SECONDS = 10.0
"""Limit of the wait until collectors have taken the steps of their segments and closed their environments."""
LONGEST_PAUSE = 32.0
"""Limit in seconds of the pause before another collector takes the place of those that have failed in a row."""


class Request(NamedTuple):
    """A segment that a collector was asked for."""

    collector: int
    num_steps: int
    """Agent steps in all of its environments together."""
    updates: int | None
    """Updates of the agent whose weights choose the actions; None for random ones."""


class RayCollector:
    """Collects segments in actors of a Ray cluster.

    Args:
        config: the run's; `config.training.collectors` actors with `config.env.num_envs` environments each.
        seed: of all environments.
        factory: creates each environment, see `make_env`; sent by cloudpickle.

    Raises:
        ConfigError: if the cluster cannot be reached, has no place for the collectors, or another version of reverie.
        EnvError: if the environments cannot be created.
    """

    phase = "wait"
    """Name of the time that the learner spends in `step` and `flush`."""

    def __init__(self, config: Config, seed: int, factory: EnvFactory | None) -> None:
        if isinstance(factory, InstanceFactory):
            raise EnvError(
                f"Collectors on Ray create environments of their own, but one instance of {factory.name} was passed. "
                "Nothing was started. Pass a function that creates the environment instead."
            )
        self._config, self._settings, self._seed, self._factory = config, config.ray, seed, factory
        size = config.training.collectors
        self._policy: PublishedPolicy | None = None
        self._pending: dict[Any, Request] = {}
        self._is_flushed = True
        self._error: Exception | None = None
        self._num_starts = [0] * size
        self._num_failures = [0] * size
        self._is_present = [False] * size
        self._states: list[CollectorState | EnvError | None] = [None] * size
        self._is_own_cluster = connect(config.ray.address, size * config.ray.cpus)
        self._actors: list[Any] = []
        try:
            self._actors += [self._start(index) for index in range(size)]
            first, *_ = self._describe()
        except BaseException:
            self.close()
            raise
        self.spec, self.frames_per_step = first.spec, first.frames_per_step
        self._envs_each = first.num_envs  # a vector environment has its own number of them
        self.num_envs = size * first.num_envs

    def make_policy(self, agent: Dreamer) -> AgentPolicy:
        """Return a policy whose weights the collectors use."""
        self._policy = PublishedPolicy(agent, len(self._actors), self._settings)
        return self._policy

    def step(self, policy: Policy, max_steps: int = 1) -> list[Transition]:
        """Ask idle collectors for their next segments; raise the error that ended the latest ones."""
        if self._error is not None:
            raise self._error
        busy = {request.collector for request in self._pending.values()}
        idle = [index for index in range(len(self._actors)) if index not in busy]
        left = max_steps - sum(request.num_steps for request in self._pending.values())
        count = min(self._settings.segment_length, math.ceil(left / (self._envs_each * max(1, len(idle)))))
        if count > 0 and policy is self._policy:
            for index in idle:
                self._ask(index, count, self._policy)
        elif count > 0:
            self._ask_random(policy, count)
        self._is_flushed = False
        return []

    def flush(self) -> list[Transition]:
        """Wait for all segments, or with the free schedule for those that are due, and return their steps."""
        if self._is_flushed:
            return []
        self._is_flushed = True
        is_fixed = self._settings.schedule == "fixed" or any(each.updates is None for each in self._pending.values())
        transitions: list[Transition] = []
        if is_fixed:
            for call in [*self._pending]:
                transitions += self._receive(self._wait([call])[0])
            return transitions
        awaited = [*self._pending]
        while awaited:
            first = self._wait(awaited)
            ready, _ = ray.wait([*self._pending], num_returns=len(self._pending), timeout=0)
            for call in dict.fromkeys([*first, *ready]):
                transitions += self._receive(call)
            awaited = self._overdue(sum(each.num_steps for each in transitions))
        return transitions

    def state(self) -> CollectorState | None:
        """Return the states of the environments, None where one failed; raise EnvError where one cannot save it."""
        states = []
        for state in self._states:
            if isinstance(state, EnvError):
                raise state
            if state is None:
                return None
            states.append(state)
        arrays = {name: np.concatenate([each.arrays[name] for each in states]) for name in states[0].arrays}
        return CollectorState([env for each in states for env in each.envs], arrays)

    def restore(self, state: CollectorState, episodes: Sequence[Callable[[], Iterator[Step]]]) -> list[str]:
        """Restore the states of new environments, and return for each why that failed; empty if it did not."""
        calls = []
        for index, actor in enumerate(self._actors):
            envs = self._slice(index)
            own = CollectorState(state.envs[envs], {name: rows[envs] for name, rows in state.arrays.items()})
            # Only environments that cannot load their state repeat their steps.
            pieces = [
                [] if env.own is not None else list(episode())
                for env, episode in zip(own.envs, episodes[envs], strict=True)
            ]
            calls.append(actor.restore.remote(own, pieces))
        problems: list[str] = []
        try:
            results = _get(calls)
        except RayError as error:
            raise EnvError(f"A collector is gone ({_reason(error)}). Nothing was trained. Try again.") from error
        for index, (found, restored) in enumerate(results):
            problems += found
            self._states[index] = restored
        return problems

    def close(self) -> None:
        """Close the environments, end the collectors, and the cluster if this process started it."""
        if self._actors:
            ray.wait(
                [actor.close.remote() for actor in self._actors], num_returns=len(self._actors), timeout=END_SECONDS
            )
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._pending = [], {}
        if self._is_own_cluster:
            ray.shutdown()
            self._is_own_cluster = False

    def _slice(self, index: int) -> slice:
        return slice(index * self._envs_each, (index + 1) * self._envs_each)

    def _start(self, index: int) -> Any:
        """Create a collector; one that takes another's place gets another seed, so that no episode is repeated."""
        seed = np.random.SeedSequence((self._seed, index, self._num_starts[index])).generate_state(1)
        self._num_starts[index] += 1
        self._is_present[index], self._states[index] = False, None
        options = {"num_cpus": self._settings.cpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        actor: Any = ray.remote(RemoteCollector)
        try:
            return actor.options(**options).remote(self._config, int(seed[0]), self._factory)
        except TypeError as error:
            raise EnvError(
                f"The function that creates the environment cannot be sent to other processes ({_first_line(error)}). "
                "Nothing was started. Pass one that does not hold open files, locks or windows."
            ) from error

    def _describe(self) -> list[Description]:
        """Wait until all collectors have created their environments."""
        calls = [actor.describe.remote() for actor in self._actors]
        ready, _ = ray.wait(calls, num_returns=len(calls), timeout=START_SECONDS)
        try:
            descriptions: list[Description] = _get(ready)
        except RayError as error:
            raise ConfigError(
                f"A collector cannot be started ({_reason(error)}). Nothing was trained. All nodes need the same "
                "versions of Python, Ray and reverie, and the package of the environment."
            ) from error
        if len(ready) < len(calls):
            raise ConfigError(
                f"{len(ready)} of {len(calls)} collectors have started within {START_SECONDS:.0f} s: each needs "
                f"ray.cpus={self._settings.cpus:g} of the cluster's {_num_cpus():g} CPUs. "
                "Nothing was trained. Lower training.collectors or ray.cpus, or add nodes."
            )
        for each in descriptions:
            if each.version != reverie_version():
                raise ConfigError(
                    f"The collector on {each.host} has reverie {each.version}, the learner {reverie_version()}. "
                    "Nothing was trained. Install the same version on all nodes."
                )
        self._is_present = [True] * len(self._actors)
        return descriptions

    def _ask(self, index: int, count: int, policy: PublishedPolicy) -> None:
        weights, updates = policy.published()
        call = self._actors[index].collect.remote(count, weights, updates, policy.draw_seed(), policy.parts[index])
        self._pending[call] = Request(index, count * self._envs_each, updates)

    def _ask_random(self, policy: Policy, count: int) -> None:
        step = {"is_first": np.zeros(self.num_envs, bool)}  # random actions do not depend on it
        actions = np.stack([policy(step) for _ in range(count)])
        for index, actor in enumerate(self._actors):
            call = actor.collect_random.remote(actions[:, self._slice(index)])
            self._pending[call] = Request(index, count * self._envs_each, None)

    def _overdue(self, num_steps: int) -> list[Any]:
        """Return the segments that would be too old if the updates for so many steps were made before they come."""
        assert self._policy is not None
        training = self._config.training
        updates = self._policy.agent.updates + math.ceil(num_steps / training.train_every) * training.train_steps
        oldest = updates - self._settings.max_policy_lag
        return [call for call, request in self._pending.items() if (request.updates or 0) < oldest]

    def _wait(self, calls: list[Any]) -> list[Any]:
        """Wait for one of some segments, or for a collector that found no place within `START_SECONDS`."""
        while True:
            ready, missing = ray.wait(calls, timeout=START_SECONDS)
            homeless = [call for call in missing if not self._is_present[self._pending[call].collector]]
            if ready or homeless:
                return ready or homeless[:1]

    def _receive(self, call: Any) -> list[Transition]:
        """Return the steps of a segment; start another collector where this one is gone."""
        request = self._pending.pop(call)
        index = request.collector
        try:
            segment: Segment = _get(call, timeout=START_SECONDS if self._is_present[index] else 1.0)
        except RayError as error:
            ray.kill(self._actors[index])
            # Until a node that has left is known to be gone, others are started there and fail, too.
            time.sleep(min(2.0 ** self._num_failures[index], LONGEST_PAUSE) - 1)
            self._num_failures[index] += 1
            self._actors[index] = self._start(index)
            envs = range(self.num_envs)[self._slice(index)]
            lost = EnvError(f"Collector {index} of 0 to {len(self._actors) - 1} is gone ({_reason(error)}).")
            return [Transition([], failed=envs, errors=[lost], envs=envs)]
        except Exception as error:  # raised by the next `step`, when all that has come is stored
            self._error = self._error or error
            return []
        self._is_present[index], self._num_failures[index] = True, 0
        self._states[index] = segment.state
        self._error = self._error or segment.error
        if self._policy is not None and segment.act_state:
            self._policy.parts[index] = segment.act_state
        lag = None
        if self._policy is not None and request.updates is not None:
            lag = self._policy.agent.updates - request.updates
        return [self._numbered(each, index, lag) for each in segment.transitions]

    def _numbered(self, transition: Transition, index: int, lag: int | None) -> Transition:
        """Return the transition of a collector with the numbers that its environments have in the run."""
        envs = range(self.num_envs)[self._slice(index)]
        episodes = [each._replace(env=envs[each.env]) for each in transition.episodes]
        failed = [envs[env] for env in transition.failed]
        seconds = transition.seconds / len(self._actors)
        return replace(transition, episodes=episodes, failed=failed, envs=envs, policy_lag=lag, seconds=seconds)


def _get(calls: Any, timeout: float | None = None) -> Any:
    """Return the results of calls; raise the errors of their functions, and RayError where a process is gone."""
    try:
        return ray.get(calls, timeout=timeout)
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else RuntimeError(str(error))) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".:")


def _num_cpus() -> float:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("CPU", 0.0)


def _reason(error: RayError) -> str:
    """Return the first sentence of the last line: Ray writes how to find its logs around it."""
    return re.split(r"[.:] ", str(error).strip().splitlines()[-1].strip())[0].rstrip(".")
