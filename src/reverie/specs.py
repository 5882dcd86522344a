"""Shapes and dtypes of a step, the data that flows between environment, replay and agent.

A *step* is a flat dictionary of numpy arrays: every observation key of the environment, and the keys of `STEP_KEYS`.
It describes the arrival in a state: `action[t]` is the action that led INTO `image[t]`, and `reward[t]`,
`is_terminal[t]` belong to that arrival (SPEC 1, 2). An episode's first step has a zero action and zero reward.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

from numpy.typing import NDArray

Array = NDArray[Any]
Step = dict[str, Array]
"""Arrays by key; a leading axis of environments (`[N, …]`) or of time and batch (`[T, B, …]`) where stated."""


@dataclass(frozen=True)
class ArraySpec:
    """Shape (without batch axes) and dtype of one entry of a step."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_image(self) -> bool:
        """Images are uint8, height x width x channels."""
        return len(self.shape) == 3 and self.dtype == "uint8"

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(self.shape)


@dataclass(frozen=True)
class ActionSpec:
    """Actions as the agent sees them: a float vector of `size` entries.

    discrete: one one-hot vector per categorical, concatenated (Discrete has one, MultiDiscrete several).
    continuous: values in [-1, 1]; the environment rescales them to its bounds.
    """

    kind: Literal["discrete", "continuous"]
    sizes: tuple[int, ...]
    """discrete: classes of each categorical; continuous: the number of dimensions, as one entry."""

    @property
    def size(self) -> int:
        """A: width of the action vector."""
        return sum(self.sizes)


@dataclass(frozen=True)
class EnvSpec:
    """Observations and actions of an environment."""

    observations: Mapping[str, ArraySpec]
    """By key, in the environment's order: images are uint8 [64, 64, C], everything else float32 vectors."""
    action: ActionSpec
    spaces: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """The environment's own `observation` and `action` space as JSON, see `reverie.envs.space_json`."""
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """Sentences for the user about what the agent does not see, or sees or does otherwise than its spaces say."""

    @property
    def step(self) -> dict[str, ArraySpec]:
        """Every entry of a stored step."""
        return {**self.observations, "action": ArraySpec((self.action.size,), "float32"), **STEP_KEYS}


STEP_KEYS: dict[str, ArraySpec] = {
    "reward": ArraySpec((), "float32"),
    "is_first": ArraySpec((), "bool"),
    "is_last": ArraySpec((), "bool"),
    "is_terminal": ArraySpec((), "bool"),
}
"""Present in every step, besides observations and action. `is_last` ends an episode; `is_terminal` says that the task
itself ended it (Gymnasium's `terminated`): a time limit sets the first and not the second."""

RESERVED_KEYS = frozenset({*STEP_KEYS, "action", "discount", "kl"})
"""Names that no observation may have: a step's own entries, and what the world model adds to batches and losses."""
