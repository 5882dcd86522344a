"""Agent steps per second that the environments give, alone and with the agent choosing the actions."""

import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from reverie import kernels
from reverie.acting import AgentPolicy
from reverie.agents import build_agent
from reverie.bench.bare_ale import bare_ale, is_atari, vector_ale
from reverie.bench.examples import example_env
from reverie.bench.machine import prepare
from reverie.bench.timing import per_second, spread
from reverie.config import Config
from reverie.envs import make_env
from reverie.specs import Step
from reverie.training.collectors import Actions, Policy, RandomPolicy, SyncCollector


def measure_collect(config: Config, preset: str, repeats: int, seconds: float) -> dict[str, Any]:
    """Step the environments as training does, but store nothing.

    In each round random actions, the agent's, and (for an Atari game) ale-py alone take turns, so that a machine that
    slows down for a while slows all of them. An untrained agent acts as fast as a trained one.

    Returns:
        Settings, and the spreads over `repeats` rounds, after one that is not counted, of
        `without_policy_steps_per_second`, `with_policy_steps_per_second` (agent steps of all environments together)
        and `act_seconds` (one decision for all environments); for Atari also `bare_ale_steps_per_second`,
        `vector_ale_steps_per_second`, and the shares of both that collection without the policy reaches.
    """
    prepare(config)
    env_config = replace(config.env, name=example_env(config, preset))
    rounds: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        env = stack.enter_context(make_env(env_config, seed=0))
        compared = {"bare_ale": bare_ale, "vector_ale": vector_ale} if is_atari(env_config) else {}
        speeds = {name: stack.enter_context(make(env_config, env.num_workers)) for name, make in compared.items()}
        collector, random_policy = SyncCollector(env), RandomPolicy(env.spec.action, np.random.default_rng(0))
        agent = build_agent(config, env.spec, seed=0)
        agent_policy = AgentPolicy(agent, policy=kernels.optimize(agent.recurrent_policy.clone()))
        decisions: list[float] = []

        def timed_policy(step: Step) -> Actions:
            start = time.perf_counter()
            actions = agent_policy(step)
            decisions.append(time.perf_counter() - start)
            return actions

        def collect(policy: Policy) -> int:
            collector.step(policy)
            return env.num_envs

        for _ in range(1 + repeats):
            decisions.clear()
            without = per_second(lambda: collect(random_policy), seconds)
            rounds["without_policy_steps_per_second"].append(without)
            rounds["with_policy_steps_per_second"].append(per_second(lambda: collect(timed_policy), seconds))
            rounds["act_seconds"].append(fmean(decisions))
            for name, speed in speeds.items():
                rounds[f"{name}_steps_per_second"].append(alone := speed(seconds))
                rounds[f"share_of_{name}"].append(without / alone)
        settings = {"num_envs": env.num_envs, "processes": env.num_workers, "action_repeat": env.frames_per_step}
    measured = [spread(name, values[1:]) for name, values in rounds.items()]
    return {"env": env_config.name, **settings, **{key: value for one in measured for key, value in one.items()}}
