"""A collector in a process of its own, anywhere in a Ray cluster."""

import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from reverie.acting import AgentPolicy
from reverie.agents import build_agent
from reverie.collectors.collector import Actions, CollectorState, Policy, Transition
from reverie.collectors.sync_collector import SyncCollector
from reverie.config import Config
from reverie.dreamer import ActState, State
from reverie.envs import EnvFactory, make_env
from reverie.errors import EnvError, ReverieError
from reverie.provenance import reverie_version
from reverie.specs import EnvSpec, Step

ActArrays = Mapping[str, NDArray[Any]]
"""State of a policy in N environments, arrays [N, …] by name; empty before its first call."""
Weights = Mapping[str, NDArray[Any]]
"""State of a policy by name; matrices may be bfloat16, as int16 of the same bits."""


class Description(NamedTuple):
    """Description of a collector."""

    spec: EnvSpec
    num_envs: int
    frames_per_step: int
    version: str | None
    """Version of reverie in its process."""
    host: str


class Segment(NamedTuple):
    """Steps that a collector has taken in its environments, and what the next ones continue from."""

    transitions: list[Transition]
    act_state: ActArrays
    state: CollectorState | EnvError | None
    """States of the environments, or why they cannot be saved; None where one has failed."""
    error: ReverieError | None
    """Error that ended the segment early."""


def pack_act_state(state: ActState) -> dict[str, NDArray[Any]]:
    """Return the state of a policy as arrays [N, …] by name."""
    return {name: part.cpu().numpy() for name, part in {**state.latent._asdict(), "action": state.action}.items()}


def unpack_act_state(arrays: ActArrays) -> ActState | None:
    """Return the state that was packed, None for no arrays."""
    tensors = {name: torch.from_numpy(np.array(rows)) for name, rows in arrays.items()}
    return ActState(action=tensors.pop("action"), latent=State(**tensors)) if tensors else None


class RemoteCollector:
    """Steps its own environments with its own copy of the policy.

    All that a segment depends on comes with the call, but for the environments, which are created at the first one: a
    collector that takes another's place needs nothing else.

    Args:
        config: the run's.
        seed: of its environments.
        factory: creates each environment, see `make_env`.
    """

    def __init__(self, config: Config, seed: int, factory: EnvFactory | None) -> None:
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # Ray's objects; they are copied
        # Processes of its own only where a timeout needs them: more collectors do the same.
        is_timed = config.env.step_timeout > 0
        self._config = config.override(device="cpu", **{"env.parallel": is_timed})
        self._seed, self._factory = seed, factory
        self._collector: SyncCollector | None = None
        self._policy: AgentPolicy | None = None
        self._generator = torch.Generator()
        self._weights_updates = -1

    def describe(self) -> Description:
        """Create the environments and describe them; raise EnvError where that fails."""
        own = self._open()
        return Description(own.spec, own.num_envs, own.frames_per_step, reverie_version(), platform.node())

    def collect(self, num_steps: int, weights: Weights, updates: int, seed: int, act_state: ActArrays) -> Segment:
        """Take `num_steps` steps in every environment with the policy.

        Args:
            num_steps: agent steps.
            weights: of the policy.
            updates: of the agent with these weights.
            seed: of latent states and actions.
            act_state: state of the policy after the latest step.
        """
        collector = self._open()
        if self._policy is None:
            agent = build_agent(self._config, collector.spec)
            self._policy = AgentPolicy(agent, generator=self._generator, policy=agent.collecting_policy)
        if self._weights_updates != updates:
            self._policy.policy.load_state_dict({name: _unpack(array) for name, array in weights.items()})
            self._weights_updates = updates
        self._generator.manual_seed(seed)
        self._policy.state = unpack_act_state(act_state)
        segment = self._collect(collector, self._policy, num_steps)
        state = self._policy.state
        return segment._replace(act_state=pack_act_state(state) if state is not None else {})

    def collect_random(self, actions: NDArray[np.float32]) -> Segment:
        """Take the steps with given actions [K, N, A]."""
        chosen = iter(actions)

        def policy(step: Step) -> Actions:
            return next(chosen)

        return self._collect(self._open(), policy, len(actions))

    def restore(
        self, state: CollectorState, episodes: Sequence[Sequence[Step]]
    ) -> tuple[list[str], CollectorState | EnvError | None]:
        """Restore the states of the environments, see `SyncCollector.restore`, and return them with the problems.

        The episodes are given as lists of their pieces.
        """
        # Arrays from other processes are read-only; environments may keep those that they are given.
        envs = [replace(env, own=_copied(env.own)) for env in state.envs]
        problems = self._open().restore(state._replace(envs=envs), [partial(iter, pieces) for pieces in episodes])
        return problems, self._state()

    def close(self) -> None:
        """Close the environments, if they have been created."""
        if self._collector is not None:
            self._collector.close()

    def _open(self) -> SyncCollector:
        if self._collector is None:
            can_restart = self._config.env.max_restarts_per_hour > 0
            self._collector = SyncCollector(make_env(self._config.env, self._seed, self._factory, can_restart))
        return self._collector

    def _collect(self, collector: SyncCollector, policy: Policy, num_steps: int) -> Segment:
        transitions: list[Transition] = []
        error = None
        try:
            for _ in range(num_steps):
                transitions += collector.step(policy)
        except ReverieError as reason:
            error = reason
        return Segment(transitions, {}, self._state(), error)

    def _state(self) -> CollectorState | EnvError | None:
        try:
            return self._open().state()
        except EnvError as error:
            return error


def _copied(own: Mapping[str, NDArray[Any]] | None) -> dict[str, NDArray[Any]] | None:
    return None if own is None else {name: array.copy() for name, array in own.items()}


def _unpack(array: NDArray[Any]) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor
