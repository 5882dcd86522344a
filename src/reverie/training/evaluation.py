"""Scores: whole episodes in fresh environments, with the actor's mode (SPEC 38, 43)."""

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from reverie.acting import AgentPolicy
from reverie.config import EnvConfig
from reverie.dreamer import Dreamer
from reverie.dreamer.recurrent_policy import Mode
from reverie.envs import EnvFactory, make_env
from reverie.errors import EnvError
from reverie.training import watchdog
from reverie.training.collection import Collector, Episode
from reverie.training.interrupts import StopRequest

MAX_ENVS = 8
"""Episodes that are played side by side."""


def report_to_standard_error(text: str) -> None:
    """Print a sentence."""
    print(text, file=sys.stderr, flush=True)


def evaluate(
    agent: Dreamer,
    config: EnvConfig,
    episodes: int,
    seed: int,
    factory: EnvFactory | None = None,
    stop: StopRequest | None = None,
    on_step: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = report_to_standard_error,
    mode: Mode = "mode",
) -> list[Episode]:
    """Play episodes to their end; latent states are sampled.

    Environments and samples are seeded by `seed` alone, so that an evaluation neither depends on what was collected
    before nor disturbs it. Each environment plays a fixed number of episodes: taking those that end first would
    prefer short ones.

    Args:
        agent: plays.
        config: of the environment; the number of environments is chosen here.
        episodes: how many.
        seed: of environments and samples.
        factory: creates the environment in place of `config.name`.
        stop: breaks the evaluation off; fewer episodes are returned then.
        on_step: called before each step.
        tell: is given a sentence where no episode ends for a while.
        mode: take the actor's mode, or sample actions.
    """
    count = 1 if getattr(factory, "single", False) else min(episodes, MAX_ENVS)
    quota = [len(part) for part in np.array_split(np.arange(episodes), count)]
    generator = torch.Generator(agent.device).manual_seed(seed)
    policy = AgentPolicy(agent, mode, generator)
    finished: list[list[Episode]] = [[] for _ in range(count)]
    parallel = config.parallel and (config.num_envs > 1 or config.step_timeout > 0)
    with make_env(replace(config, num_envs=count, parallel=parallel), seed, factory) as env:
        if env.spec != agent.spec:
            raise EnvError(
                f"The agent was trained with {agent.spec.action} and observations {dict(agent.spec.observations)}, "
                f"but {config.name} has {env.spec.action} and {dict(env.spec.observations)}."
            )
        collector = Collector(env)
        episodes_end = watchdog.EpisodeWatch(tell, "evaluation", config.time_limit)
        while any(len(done) < wanted for done, wanted in zip(finished, quota, strict=True)):
            if stop is not None and stop.requested:
                break
            on_step()
            ended = collector.collect(policy).episodes
            episodes_end.step(1, ended=any(len(finished[index]) < quota[index] for index, _ in ended))
            for index, episode in ended:
                finished[index].append(episode)
    return [episode for done, wanted in zip(finished, quota, strict=True) for episode in done[:wanted]]


def evaluation_seed(seed: int, number: int, attempt: int = 0) -> int:
    """Seed of the number-th evaluation of a run, unrelated to those of its training environments.

    An evaluation in which an environment has failed is played anew, as attempt 1, 2, ..., with another seed.
    """
    entropy = (seed, 0xE7A1, number, attempt) if attempt else (seed, 0xE7A1, number)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
