"""Scores: whole episodes in fresh environments, with the actor's mode (SPEC 38, 43)."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie.acting import AgentPolicy
from reverie.agents import load
from reverie.config import EnvConfig
from reverie.dreamer import Dreamer
from reverie.envs import EnvFactory, make_env
from reverie.envs.atari import ENTRY_POINT
from reverie.envs.catalog import find_spec
from reverie.errors import EnvError
from reverie.training import watchdog
from reverie.training.collection import Collector, Episode
from reverie.training.interrupts import StopRequest

MAX_ENVS = 8
"""Episodes that are played side by side."""


def _to_standard_error(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def evaluate(
    agent: Dreamer,
    config: EnvConfig,
    episodes: int,
    seed: int,
    factory: EnvFactory | None = None,
    stop: StopRequest | None = None,
    on_step: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = _to_standard_error,
) -> list[Episode]:
    """Play episodes to their end with the actor's mode; latent states are sampled.

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
    """
    count = 1 if getattr(factory, "single", False) else min(episodes, MAX_ENVS)
    quota = [len(part) for part in np.array_split(np.arange(episodes), count)]
    generator = torch.Generator(agent.device).manual_seed(seed)
    policy = AgentPolicy(agent, mode="mode", generator=generator)
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


def evaluate_run(path: Path, episodes: int, seed: int | None = None, device: str = "auto") -> dict[str, Any]:
    """Score a run, one of its checkpoints, or a saved agent.

    Args:
        path: its folder.
        episodes: to play.
        seed: of environments and samples; None derives one from the run's, away from those of training.
        device: where the agent runs.

    Returns:
        `mean`, `std` (the sample's, divided by n - 1; None for one episode) and `episodes`, a list of {return, length},
        of raw rewards; `env`, `agent_steps`, `seed`; and `protocol`, how the episodes were played.
    """
    agent = load(path, device)
    origin = "derived from the run's, apart from training" if seed is None else "given"
    seed = evaluation_seed(agent.config.training.seed, 0) if seed is None else seed
    played = evaluate(agent, agent.config.env, episodes, seed)
    returns = np.array([episode.return_ for episode in played])
    return {
        "env": agent.config.env.name,
        "agent_steps": agent.agent_steps,
        "seed": seed,
        "protocol": {**_protocol(agent.config.env), "seed": origin},
        "mean": float(returns.mean()),
        "std": float(returns.std(ddof=1)) if len(returns) > 1 else None,
        "episodes": [{"return": episode.return_, "length": episode.length} for episode in played],
    }


def _protocol(config: EnvConfig) -> dict[str, Any]:
    """What the environment's configuration decides, and what is the same in every evaluation."""
    return {
        "sticky_actions": config.sticky_actions if find_spec(config.name).entry_point == ENTRY_POINT else None,
        "action_repeat": config.action_repeat,
        "time_limit": config.time_limit or None,
        "actions": "mode",
        "latents": "sampled",
        "episodes": "counted to their end",
    }


def evaluation_seed(seed: int, number: int, attempt: int = 0) -> int:
    """Seed of the number-th evaluation of a run, unrelated to those of its training environments.

    An evaluation in which an environment has failed is played anew, as attempt 1, 2, ..., with another seed.
    """
    entropy = (seed, 0xE7A1, number, attempt) if attempt else (seed, 0xE7A1, number)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
