"""How many agent steps per second the environments give, alone and with the agent choosing the actions."""

import time
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import numpy as np

from reverie import kernels
from reverie.acting import AgentPolicy
from reverie.agents import build_agent
from reverie.bench.bare_ale import BareALE, VectorALE, is_atari
from reverie.bench.examples import example_env
from reverie.bench.machine import prepare
from reverie.bench.spread import spread
from reverie.config import Config
from reverie.envs import make_env
from reverie.specs import Step
from reverie.training.collectors import Actions, Policy, RandomPolicy, SyncCollector


class TimedPolicy:
    """A policy, and how long its decisions took."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.seconds = 0.0
        self.calls = 0

    def __call__(self, step: Step) -> Actions:
        """Ask the policy."""
        start = time.perf_counter()
        action = self._policy(step)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return action


def measure_collect(config: Config, preset: str, repeats: int, seconds: float) -> dict[str, Any]:
    """Step the environments as training does, but store nothing.

    In each round ale-py by itself (for an Atari game; see `bare_ale`), random actions and the agent's have their turn,
    so that a machine that slows down for a while slows all of them. An untrained agent acts as fast as a trained one.

    Args:
        config: environment, agent, device and threads are taken from it.
        preset: its name; it decides which environment is taken if none is named.
        repeats: rounds that are measured, after one that is not.
        seconds: of each part of a round, at least.

    Returns:
        `env`, `num_envs`, `processes` that step them and `action_repeat`; the spreads over the rounds of
        `without_policy_steps_per_second`, `with_policy_steps_per_second` (agent steps of all environments together)
        and `act_seconds` (one decision for all environments); for Atari also of `bare_ale_steps_per_second` (as many
        emulators as there are processes), `vector_ale_steps_per_second`, `share_of_bare_ale` and
        `share_of_vector_ale`, those of collection without the policy.

    Raises:
        EnvError: if the environment is unknown, cannot be created, or fails.
    """
    prepare(config)
    env_config = replace(config.env, name=example_env(config, preset))
    bare, vector, without, with_policy, act = [], [], [], [], []
    with ExitStack() as stack:
        env = stack.enter_context(make_env(env_config, seed=0))
        ale = stack.enter_context(BareALE(env_config, env.num_workers)) if is_atari(env_config) else None
        vector_ale = stack.enter_context(closing(VectorALE(env_config, env.num_workers))) if ale is not None else None
        collector = SyncCollector(env)
        random_policy = RandomPolicy(env.spec.action, np.random.default_rng(0))
        agent = build_agent(config, env.spec, seed=0)
        agent_policy = AgentPolicy(agent, policy=kernels.optimize(agent.recurrent_policy.clone()))
        for _ in range(1 + repeats):
            if ale is not None and vector_ale is not None:
                bare.append(ale.steps_per_second(seconds))
                vector.append(vector_ale.steps_per_second(seconds))
            without.append(_steps_per_second(collector, random_policy, env.num_envs, seconds))
            timed = TimedPolicy(agent_policy)
            with_policy.append(_steps_per_second(collector, timed, env.num_envs, seconds))
            act.append(timed.seconds / timed.calls)
    result = {
        "env": env_config.name,
        "num_envs": env.num_envs,
        "processes": env.num_workers,
        "action_repeat": env.frames_per_step,
        **spread("without_policy_steps_per_second", without[1:]),
        **spread("with_policy_steps_per_second", with_policy[1:]),
        **spread("act_seconds", act[1:]),
    }
    for name, yardstick in (("bare_ale", bare), ("vector_ale", vector)):
        if yardstick:
            shares = [ours / theirs for ours, theirs in zip(without[1:], yardstick[1:], strict=True)]
            result |= spread(f"{name}_steps_per_second", yardstick[1:]) | spread(f"share_of_{name}", shares)
    return result


def _steps_per_second(collector: SyncCollector, policy: Policy, num_envs: int, seconds: float) -> float:
    steps, start, elapsed = 0, time.perf_counter(), 0.0
    while elapsed < seconds:
        collector.step(policy)
        steps += num_envs
        elapsed = time.perf_counter() - start
    return steps / elapsed
