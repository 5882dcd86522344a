"""The yardsticks of Atari collection: ale-py alone, played at random.

`BareALE` is the emulator by itself, with the same stickiness, actions and frames per step. One screen is fetched per
step, as ale-py returns it; nothing is pooled, resized, checked, batched or stored. `VectorALE` is ale-py's own batched
environment in C++, which also takes the maximum of two frames and resizes to the agent's images.
"""

import multiprocessing
import random
import time
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.config import EnvConfig
from reverie.envs.atari import ENTRY_POINT
from reverie.envs.catalog import find_spec
from reverie.errors import EnvError


def is_atari(config: EnvConfig) -> bool:
    """Whether the environment is one of ale-py's.

    Raises:
        EnvError: if there is none of that name.
    """
    return find_spec(config.name).entry_point == ENTRY_POINT


class BareALE:
    """Emulators that play at random, each in a process of its own if there are several; use it as a context manager.

    Args:
        config: game and settings.
        processes: how many; a single one runs in this process.
    """

    def __init__(self, config: EnvConfig, processes: int) -> None:
        game = find_spec(config.name).kwargs
        self._processes = processes
        self._own = _Emulator(config, game) if processes == 1 else None
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(processes, spawn, initializer=_start, initargs=(config, game))

    def steps_per_second(self, seconds: float) -> float:
        """Agent steps per second of all emulators together, played for so long."""
        if self._own is not None:
            return self._own.play(seconds)
        assert self._pool is not None
        return sum(self._pool.map(_play, [seconds] * self._processes))

    def __enter__(self) -> "BareALE":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()


class VectorALE:
    """`ale_py.AtariVectorEnv` with the settings of the environments, and as many threads as they have processes."""

    def __init__(self, config: EnvConfig, processes: int) -> None:
        from ale_py.vector_env import AtariVectorEnv

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
        """Agent steps per second of all environments together, played for so long."""
        count, space = self._env.num_envs, self._env.single_action_space
        assert isinstance(space, spaces.Discrete)
        steps, elapsed, start = 0, 0.0, time.perf_counter()
        while elapsed < seconds:
            self._env.step(self._rng.integers(space.n, size=count))
            steps += count
            elapsed = time.perf_counter() - start
        return steps / elapsed

    def close(self) -> None:
        """End its threads."""
        self._env.close()


class _Emulator:
    """One game."""

    def __init__(self, config: EnvConfig, game: dict[str, Any]) -> None:
        import ale_py
        from ale_py import roms

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", config.sticky_actions)
        rom = roms.get_rom_path(game["game"])
        if rom is None:
            raise EnvError(f"ale-py has no ROM of the game '{game['game']}'.")
        self._ale.loadROM(rom)
        if game.get("mode") is not None:
            self._ale.setMode(game["mode"])
        if game.get("difficulty") is not None:
            self._ale.setDifficulty(game["difficulty"])
        self._actions = self._ale.getLegalActionSet() if config.full_action_space else self._ale.getMinimalActionSet()
        self._screen = self._ale.getScreenGrayscale if config.grayscale else self._ale.getScreenRGB
        self._action_repeat = config.action_repeat

    def play(self, seconds: float) -> float:
        """Agent steps per second."""
        ale, steps, elapsed, start = self._ale, 0, 0.0, time.perf_counter()
        while elapsed < seconds:
            action = random.choice(self._actions)
            for _ in range(self._action_repeat):
                ale.act(action)
            self._screen()
            if ale.game_over(with_truncation=False):
                ale.reset_game()
            steps += 1
            elapsed = time.perf_counter() - start
        return steps / elapsed


_emulator: _Emulator
"""That of a process of the pool."""


def _start(config: EnvConfig, game: dict[str, Any]) -> None:
    global _emulator
    _emulator = _Emulator(config, game)


def _play(seconds: float) -> float:
    return _emulator.play(seconds)
