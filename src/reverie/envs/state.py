"""Where an environment stands, so that another process can go on from there.

There are two ways. An environment that has the methods `save_state() -> dict of arrays` and `load_state(dict)`, as our
Atari and MinAtar have, is asked. Every other one is taken through its latest episode again, from the state of its
random generator before that and with the actions that the replay has. What it shows then is compared with what it
showed the first time: one that does not repeat itself is found out, and never goes on in silence.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np

from reverie.specs import Array

SHOWN = ("reward", "is_last", "is_terminal")
"""Entries of every step that an environment decides, besides its observations."""


@runtime_checkable
class SavesState(Protocol):
    """An environment that can say where it stands."""

    def save_state(self) -> dict[str, Array]:
        """Everything that decides what happens next, its random generators included."""

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on from there, in an environment that was made alike and perhaps never reset."""


@dataclass(frozen=True)
class EnvState:
    """Where one environment stands."""

    episode: int = 0
    """Number of its latest episode; 0 before the first one."""
    step: int = 0
    """Agent steps in that episode."""
    running: bool = False
    """Whether the episode goes on."""
    seed: int | None = None
    """What its latest reset was given."""
    random: Any = None
    """State of its `np_random` before that reset, as `Generator.bit_generator.state`; None if it has none."""
    own: dict[str, Array] | None = None
    """What `save_state` returned; None for an environment without it."""


def generator_of(env: gymnasium.Env[Any, Any]) -> np.random.Generator | None:
    """The random generator that Gymnasium keeps for an environment; None if it is something else."""
    found = getattr(env.unwrapped, "np_random", None)
    return found if isinstance(found, np.random.Generator) else None


def random_state(generator: np.random.Generator) -> Array:
    """The state of an environment's `np_random` as uint8 `[n]`, for `save_state`."""
    return np.frombuffer(json.dumps(generator.bit_generator.state).encode(), np.uint8)


def set_random_state(generator: np.random.Generator, state: Array) -> None:
    """Set a generator, in place, to what `random_state` returned for one of the same kind."""
    generator.bit_generator.state = json.loads(state.tobytes())


def fingerprint(steps: Mapping[str, Array], observations: Mapping[str, Any]) -> bytes:
    """Of what an environment showed in steps `[K, …]`: equal ones have equal bits."""
    hashed = hashlib.sha256()
    for key in (*observations, *SHOWN):
        hashed.update(np.ascontiguousarray(steps[key]).tobytes())
    return hashed.digest()
