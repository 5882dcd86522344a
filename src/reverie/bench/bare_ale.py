"""Comparisons for the collection of Atari games: ale-py alone, with random actions."""

import multiprocessing
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from ale_py import ALEInterface
from ale_py.vector_env import AtariVectorEnv
from gymnasium.spaces import Discrete

from reverie.bench.timing import per_second
from reverie.config import EnvConfig
from reverie.envs.atari import ENTRY_POINT
from reverie.envs.registry import find_spec

Speed = Callable[[float], float]
"""Agent steps per second of all environments together, measured for some seconds."""


def is_atari(config: EnvConfig) -> bool:
    """Return whether the environment is one of ale-py's; raise EnvError if there is none of that name."""
    return find_spec(config.name).entry_point == ENTRY_POINT


@contextmanager
def bare_ale(config: EnvConfig, processes: int) -> Iterator[Speed]:
    """Create emulators with the same stickiness, actions and frames per step, each in a process of its own.

    One screen is fetched per step, as ale-py returns it. Nothing is pooled, resized, checked, batched or stored.
    """
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield lambda seconds: sum(pool.map(play, [config] * processes, [seconds] * processes))


@contextmanager
def vector_ale(config: EnvConfig, processes: int) -> Iterator[Speed]:
    """Create an `ale_py.AtariVectorEnv`, in C++, with the same settings and a thread for each process of ours.

    It pools two frames and resizes them to the agent's images, too.
    """
    env = AtariVectorEnv(
        find_spec(config.name).kwargs["game"],
        config.num_envs,
        num_threads=processes,
        repeat_action_probability=config.sticky_actions,
        full_action_space=config.full_action_space,
        img_height=config.image_size[0],
        img_width=config.image_size[1],
        grayscale=config.grayscale,
        stack_num=1,
        frameskip=config.action_repeat,
        maxpool=config.action_repeat > 1,
        noop_max=config.noop_max,
        reward_clipping=False,
        use_fire_reset=False,
    )
    assert isinstance(env.single_action_space, Discrete)
    num_actions, rng = env.single_action_space.n, np.random.default_rng(0)

    def step() -> int:
        env.step(rng.integers(num_actions, size=config.num_envs))
        return config.num_envs

    env.reset(seed=0)
    try:
        yield lambda seconds: per_second(step, seconds)
    finally:
        env.close()


def play(config: EnvConfig, seconds: float) -> float:
    """Return the agent steps per second of one emulator. Loading it is not timed."""
    ale = load_emulator(config)
    actions = ale.getLegalActionSet() if config.full_action_space else ale.getMinimalActionSet()
    get_screen = ale.getScreenGrayscale if config.grayscale else ale.getScreenRGB

    def step() -> int:
        action = random.choice(actions)
        for _ in range(config.action_repeat):
            ale.act(action)
        get_screen()
        if ale.game_over(with_truncation=False):
            ale.reset_game()
        return 1

    return per_second(step, seconds)


def load_emulator(config: EnvConfig) -> ALEInterface:
    """Return an emulator with the game and its settings."""
    env: Any = find_spec(config.name).make(repeat_action_probability=config.sticky_actions).unwrapped
    emulator: ALEInterface = env.ale
    return emulator
