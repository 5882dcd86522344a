"""Agent steps per second that the environments give, alone and with the agent choosing the actions."""

import time
from collections import defaultdict
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from reverie import kernels
from reverie.acting import AgentPolicy
from reverie.agents import build_agent
from reverie.bench.examples import example_env
from reverie.bench.measuring import per_second, prepare, spread
from reverie.collectors.collector import Actions, Policy
from reverie.collectors.random_policy import RandomPolicy
from reverie.collectors.sync_collector import SyncCollector
from reverie.config import Config
from reverie.envs import make_env
from reverie.specs import Step


def measure_collect(config: Config, preset: str, repeats: int, seconds: float) -> dict[str, Any]:
    """Step the environments as training does, but store nothing.

    In each round random actions and the agent's take turns, so that a machine that slows down for a while slows both.
    An untrained agent acts as fast as a trained one.

    Returns:
        Settings, and the spreads over `repeats` rounds, after one that is not counted, of
        `without_policy_steps_per_second`, `with_policy_steps_per_second` (agent steps of all environments together)
        and `act_seconds` (one decision for all environments).
    """
    prepare(config)
    env_config = replace(config.env, name=example_env(config, preset))
    rounds: dict[str, list[float]] = defaultdict(list)
    with make_env(env_config, seed=0) as env:
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
            rounds["without_policy_steps_per_second"].append(per_second(lambda: collect(random_policy), seconds))
            rounds["with_policy_steps_per_second"].append(per_second(lambda: collect(timed_policy), seconds))
            rounds["act_seconds"].append(fmean(decisions))
        settings = {"num_envs": env.num_envs, "processes": env.num_workers, "action_repeat": env.frames_per_step}
    measured = [spread(name, values[1:]) for name, values in rounds.items()]
    return {"env": env_config.name, **settings, **{key: value for one in measured for key, value in one.items()}}
