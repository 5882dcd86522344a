"""The state of an environment, with which another process continues it.

An environment with the methods `save_state() -> dict of arrays` and `load_state(dict)`, such as our Atari and MinAtar,
saves and loads its state itself. Every other one replays its latest episode: from the state of its random generator at
the reset, with the actions in the replay. Its steps are then compared with those of the first time, so that an
environment that is not deterministic is detected.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.specs import Array


@dataclass(frozen=True)
class EnvState:
    """State of one environment."""

    episode: int = 0
    """Number of its latest episode; 0 before the first one."""
    step: int = 0
    """Agent steps in that episode."""
    running: bool = False
    """True until the episode ends."""
    seed: int | None = None
    """Seed of its latest reset."""
    random: Any = None
    """State of its `np_random` before that reset, as `Generator.bit_generator.state`; None if it has none."""
    own: dict[str, Array] | None = None
    """Result of `save_state`; None for an environment without it."""


def random_state(generator: np.random.Generator) -> Array:
    """Return the state of an environment's `np_random` as uint8 `[n]`, for `save_state`."""
    return np.frombuffer(json.dumps(generator.bit_generator.state).encode(), np.uint8)


def set_random_state(generator: np.random.Generator, state: Array) -> None:
    """Set a generator in place to a result of `random_state` for one of the same kind."""
    generator.bit_generator.state = json.loads(state.tobytes())
