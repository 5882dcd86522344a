"""Comparisons for the collection of Atari games: ale-py alone, with random actions."""

import multiprocessing
import random
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import ale_py
import numpy as np
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium.spaces import Discrete

from reverie.config import EnvConfig
from reverie.envs.atari import ENTRY_POINT
from reverie.envs.registry import find_spec


def is_atari(config: EnvConfig) -> bool:
    """Return whether the environment is one of ale-py's.

    Raises:
        EnvError: if there is none of that name.
    """
    return find_spec(config.name).entry_point == ENTRY_POINT


class BareALE:
    """Emulators with the same stickiness, actions and frames per step, each in a process of its own.

    One screen is fetched per step, as ale-py returns it. Nothing is pooled, resized, checked, batched or stored.

    Args:
        config: game and settings.
        processes: number of emulators. A single one runs in this process.
    """

    def __init__(self, config: EnvConfig, processes: int) -> None:
        self._config, self._processes = config, processes
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, spawn) if processes > 1 else None

    def steps_per_second(self, seconds: float) -> float:
        """Return the agent steps per second of all emulators together, measured for some seconds."""
        if self._pool is None:
            return play(self._config, seconds)
        return sum(self._pool.map(play, [self._config] * self._processes, [seconds] * self._processes))

    def __enter__(self) -> "BareALE":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()


class VectorALE:
    """`ale_py.AtariVectorEnv`, in C++, with the settings of the environments and a thread for each of their processes.

    It pools two frames and resizes them to the agent's images, too.
    """

    def __init__(self, config: EnvConfig, processes: int) -> None:
        height, width = config.image_size
        self._env = AtariVectorEnv(
            find_spec(config.name).kwargs["game"],
            config.num_envs,
            num_threads=processes,
            repeat_action_probability=config.sticky_actions,
            full_action_space=config.full_action_space,
            img_height=height,
            img_width=width,
            grayscale=config.grayscale,
            stack_num=1,
            frameskip=config.action_repeat,
            maxpool=config.action_repeat > 1,
            noop_max=config.noop_max,
            reward_clipping=False,
            use_fire_reset=False,
        )
        self._rng = np.random.default_rng(0)
        self._env.reset(seed=0)

    def steps_per_second(self, seconds: float) -> float:
        """Return the agent steps per second of all environments together, measured for some seconds."""
        assert isinstance(self._env.single_action_space, Discrete)
        num_actions = self._env.single_action_space.n
        steps, elapsed, start = 0, 0.0, time.perf_counter()
        while elapsed < seconds:
            self._env.step(self._rng.integers(num_actions, size=self._env.num_envs))
            steps += self._env.num_envs
            elapsed = time.perf_counter() - start
        return steps / elapsed

    def close(self) -> None:
        """End its threads."""
        self._env.close()


def load_emulator(config: EnvConfig) -> ale_py.ALEInterface:
    """Return an emulator with the game and its settings."""
    game: dict[str, Any] = find_spec(config.name).kwargs
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", config.sticky_actions)
    rom = roms.get_rom_path(game["game"])
    assert rom is not None, "ale-py has the ROMs of all registered games"
    ale.loadROM(rom)
    if game.get("mode") is not None:
        ale.setMode(game["mode"])
    if game.get("difficulty") is not None:
        ale.setDifficulty(game["difficulty"])
    return ale


def play(config: EnvConfig, seconds: float) -> float:
    """Return the agent steps per second of one emulator. Loading it is not timed."""
    ale = load_emulator(config)
    actions = ale.getLegalActionSet() if config.full_action_space else ale.getMinimalActionSet()
    get_screen = ale.getScreenGrayscale if config.grayscale else ale.getScreenRGB
    steps, elapsed, start = 0, 0.0, time.perf_counter()
    while elapsed < seconds:
        action = random.choice(actions)
        for _ in range(config.action_repeat):
            ale.act(action)
        get_screen()
        if ale.game_over(with_truncation=False):
            ale.reset_game()
        steps += 1
        elapsed = time.perf_counter() - start
    return steps / elapsed
