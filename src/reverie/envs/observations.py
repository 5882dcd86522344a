"""Conversion of Gymnasium's observations to uint8 images of 64x64 pixels and float32 vectors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from gymnasium import spaces

from reverie.envs.images import MIN_SIDE, image_converter, is_grid, is_large, is_scalable
from reverie.envs.spaces import LARGEST_BOUND, InvalidStepError, Path, Space, check_array, leaves
from reverie.errors import EnvError
from reverie.specs import RESERVED_KEYS, Array, ArraySpec

SUPPORTED = "Box, Discrete, MultiDiscrete, MultiBinary, or Dict or Tuple of these"

Converter = Callable[[Array], Array]


class Entry(NamedTuple):
    """Entry of an observation: its place in nested spaces, its space, and its form for the agent."""

    path: Path
    space: Space
    spec: ArraySpec
    convert: Converter


class ObservationAdapter:
    """Converter of observations of `space` to flat dictionaries of arrays.

    A bare image gets the key `image`, any other bare observation `vector`. Entries of nested Dict and Tuple spaces stay
    apart: their keys, and indices of a Tuple from 0 on, are joined with "/".

    Args:
        space: the environment's observation space.
        env: name of the environment for messages.
        image_keys: keys that are images, whatever their size; a bare observation is `image` or `vector`.
        vector_keys: keys that are vectors, whatever their size.

    Attributes:
        entries: entries by key, in the order of the space.
        notes: sentences that say what is left out, or is not what it seems, and why.

    Raises:
        EnvError: if nothing is left that the agent can read, if an image has no bounds, or if keys do not fit.
    """

    def __init__(self, space: Space, env: str, image_keys: Sequence[str] = (), vector_keys: Sequence[str] = ()) -> None:
        self.entries: dict[str, Entry] = {}
        self.notes: list[str] = []
        self._env = env
        unknown = {*image_keys, *vector_keys}
        for path, leaf in leaves(space):
            key = "/".join(map(str, path))
            if not is_read(leaf):
                reason = "it is empty" if 0 in (leaf.shape or ()) else f"the agent cannot read {type(leaf).__name__}"
                self.notes.append(f"The observation '{key}' is left out, since {reason}.")
                continue
            names = {key} if path else {"image", "vector"}
            unknown -= names
            if self._is_image(leaf, key, not names.isdisjoint(image_keys), not names.isdisjoint(vector_keys)):
                kind, (spec, convert) = "image", image_converter(leaf)
            else:
                kind, (spec, convert) = "vector", _vector_converter(leaf)
            key = key if path else kind
            if key in RESERVED_KEYS or key in self.entries:
                raise EnvError(f"{env}: the observation key '{key}' is taken; rename it in the environment.")
            self.entries[key] = Entry(path, leaf, spec, convert)
        if not self.entries:
            raise EnvError(
                f"{env}: the observation space {type(space).__name__} is not supported; make it {SUPPORTED} "
                "(ObservationWrapper)."
            )
        if unknown:
            raise EnvError(
                f"{env}: env.image_keys or env.vector_keys name {_quote(sorted(unknown))}, which is not observed. "
                f"The keys are {_quote(self.entries)}."
            )

    @property
    def specs(self) -> dict[str, ArraySpec]:
        """Shape and dtype by key."""
        return {key: entry.spec for key, entry in self.entries.items()}

    def __call__(self, observation: Any) -> dict[str, Array]:
        """Convert one observation; the arrays never share memory with it."""
        return self.convert(self.split(observation))

    def split(self, observation: Any) -> dict[str, Any]:
        """Return the values of the entries by key, of one observation or of a batch."""
        values = dict.fromkeys(self.entries, observation)
        for key, entry in self.entries.items():
            try:
                for part in entry.path:
                    values[key] = values[key][part]
            except (LookupError, TypeError):
                raise InvalidStepError(f"observation entry '{key}' is missing") from None
        return values

    def split_batch(self, observations: Any, num_envs: int) -> list[dict[str, Any]]:
        """Return the values of each environment for `convert`, of what `gymnasium.vector` returned."""
        values = self.split(observations)
        for key, value in values.items():
            if np.shape(value)[:1] != (num_envs,):
                raise InvalidStepError(f"observation '{key}' is not of {num_envs} environments")
        return unbatch(values, num_envs)

    def convert(self, values: Mapping[str, Any]) -> dict[str, Array]:
        """Convert the result of `split` for one observation."""
        result = {}
        for key, (_, space, _, convert) in self.entries.items():
            try:
                result[key] = convert(check_array(values[key], space))
            except InvalidStepError as error:
                raise InvalidStepError(f"observation '{key}' {error}") from None
        return result

    def _is_image(self, space: Space, key: str, is_wanted: bool, is_unwanted: bool) -> TypeGuard[spaces.Box]:
        name = f"observation '{key}'" if key else "observation"
        can_be = isinstance(space, spaces.Box) and len(space.shape) in (2, 3, 4)
        if is_wanted and not can_be:
            raise EnvError(
                f"{self._env}: the {name} ({space}) is no image, which is a Box with 2 to 4 dimensions. "
                "Leave it out of env.image_keys."
            )
        if is_unwanted or not isinstance(space, spaces.Box) or not (is_wanted or is_grid(space)):
            return False
        if not (is_wanted or is_large(space)):
            reason = f"a side is shorter than {MIN_SIDE}; env.image_keys makes it an image"
            if min(space.shape[:2]) >= MIN_SIDE:  # of a stack
                reason = "frames must be along the first axis; transpose it with gymnasium.ObservationWrapper"
            self.notes.append(f"The {name} of shape {space.shape} is read as a vector, since {reason}.")
            return False
        if not is_scalable(space):
            raise EnvError(
                f"{self._env}: the image in the {name} has no bounds below {LARGEST_BOUND:g}. It cannot be scaled. "
                "Clip it (TransformObservation), or name it in env.vector_keys."
            )
        if space.dtype == np.uint8 and space.high.max() < 128:
            self.notes.append(
                f"The image in the {name} is dark, with values of at most {space.high.max()} of 255; scale it, "
                "or make it a vector by env.vector_keys."
            )
        return True


def is_read(space: Space) -> bool:
    """Return True for a space that the agent can read, which is not nested."""
    kinds = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    return isinstance(space, kinds) and 0 not in (space.shape or ())


def unbatch(values: Mapping[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Split values by key, each with a leading axis of environments, into those of each environment."""
    return [{key: value[index] for key, value in values.items()} for index in range(num_envs)]


def _vector_converter(space: Space) -> tuple[ArraySpec, Converter]:
    is_index = isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
    # Bytes are scaled like pixels, as the release does with the console's memory (SPEC 3).
    is_memory = isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) <= 1

    def convert(array: Array) -> Array:
        if is_index:
            index = array.astype(space.dtype)
            if not space.contains(index):
                raise InvalidStepError(f"is {array}, which is not in {space}")
            array = np.asarray(spaces.flatten(space, index))  # one-hot
        vector = array.astype(np.float32).reshape(-1)
        return vector / np.float32(255) - np.float32(0.5) if is_memory else vector

    return ArraySpec((spaces.flatdim(space),), "float32"), convert


def _quote(keys: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(f"'{key}'" for key in keys)
