"""Conversion of Gymnasium's observations to the arrays of `specs.py`, and of the agent's actions to Gymnasium's.

Observations become uint8 images of 64x64 pixels, or float32 vectors. Each entry of a (nested) Dict space stays apart.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from reverie.envs.checks import InvalidStepError, check_array
from reverie.errors import EnvError
from reverie.specs import RESERVED_KEYS, ActionSpec, Array, ArraySpec

SUPPORTED_OBSERVATIONS = (
    "images (Box of uint8 or bool with 2 or 3 dimensions, or of floats in [0, 1] with 3), vectors (Box), Discrete, "
    "MultiDiscrete, MultiBinary, and Dict of these"
)
SUPPORTED_ACTIONS = "Discrete, MultiDiscrete with one dimension, and Box of floats with finite bounds"


@dataclass(frozen=True)
class ObservationEntry:
    """One key of a step: its path in the environment's observation, its spec and its conversion."""

    path: tuple[str, ...]
    spec: ArraySpec
    convert: Callable[[Any], Array]


class ObservationAdapter:
    """Converter of observations of `space` to flat dictionaries of arrays.

    A bare image gets the key `image`, any other bare observation `vector`; keys of nested Dicts are joined with "/".

    Raises:
        EnvError: if the space is not supported; `env` is the name that the message gives.
    """

    def __init__(self, space: spaces.Space[Any], env: str, image_size: tuple[int, int] = (64, 64)) -> None:
        self._entries: dict[str, ObservationEntry] = {}
        for path, leaf in _leaves(space):
            converter = _observation_converter(leaf, image_size)
            if converter is None:
                where = f" under key '{'/'.join(path)}'" if path else ""
                raise EnvError(
                    f"{env}: the observation space {leaf}{where} is not supported; "
                    f"reverie reads {SUPPORTED_OBSERVATIONS}. Convert it with a gymnasium.ObservationWrapper."
                )
            spec, convert = converter
            key = "/".join(path) or ("image" if spec.is_image else "vector")
            if key in RESERVED_KEYS or key in self._entries:
                raise EnvError(f"{env}: the observation key '{key}' is taken; rename it in the environment.")
            self._entries[key] = ObservationEntry(path, spec, convert)
        if not self._entries:
            raise EnvError(f"{env}: the observation space {space} is empty; reverie reads {SUPPORTED_OBSERVATIONS}.")

    @property
    def specs(self) -> dict[str, ArraySpec]:
        """Shape and dtype by key, in the order of the space."""
        return {key: entry.spec for key, entry in self._entries.items()}

    def __call__(self, observation: Any) -> dict[str, Array]:
        """Convert one observation; the arrays never share memory with it.

        Raises:
            InvalidStepError: if the observation does not fit its space.
        """
        result = {}
        for key, entry in self._entries.items():
            value = observation
            for part in entry.path:
                if not isinstance(value, Mapping) or part not in value:
                    raise InvalidStepError(f"the observation has no entry '{key}'")
                value = value[part]
            try:
                result[key] = entry.convert(value)
            except InvalidStepError as error:
                raise InvalidStepError(f"observation '{key}' {error}") from None
        return result


class ActionAdapter:
    """Converter of the agent's action vectors (see `ActionSpec`) to actions of `space`.

    Raises:
        EnvError: if the space is not supported; `env` is the name that the message gives.
    """

    def __init__(self, space: spaces.Space[Any], env: str) -> None:
        self.spec, self._convert = _action_converter(space, env)

    def __call__(self, action: Array) -> Any:
        """Convert one action `[A]`."""
        return self._convert(action)


def check_actions(actions: Array, spec: ActionSpec, num_envs: int) -> Array:
    """Return actions `[N, A]` as float32, if they are one-hot where discrete (up to float noise), finite otherwise.

    Source: the one-hot check of SPEC 39.

    Raises:
        EnvError: if they are not.
    """
    actions = np.asarray(actions, np.float32)
    if actions.shape != (num_envs, spec.size):
        raise EnvError(f"The actions have shape {actions.shape}, but {(num_envs, spec.size)} is needed.")
    if spec.kind == "continuous":
        _check_finite(actions)
        return actions
    start = 0
    for size in spec.sizes:
        part = actions[:, start : start + size]
        start += size
        distance = np.abs(np.maximum.reduce(part, 1) - 1) + np.abs(np.add.reduce(np.abs(part), 1) - 1)
        # Written so that NaN fails, and does not need a check of its own every time.
        if not np.logical_and.reduce(distance <= 1e-3):
            _check_finite(actions)
            raise EnvError(f"Discrete actions must be one-hot vectors, not {part.tolist()}.")
    return actions


def _check_finite(actions: Array) -> None:
    if not np.isfinite(actions).all():
        raise EnvError("The agent's actions contain NaN or infinity; the policy has probably diverged.")


def _leaves(space: spaces.Space[Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], spaces.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        return [leaf for key, child in space.spaces.items() for leaf in _leaves(child, (*path, key))]
    return [(path, space)]


Integers = NDArray[np.integer[Any]]
_Converter = tuple[ArraySpec, Callable[[Any], Array]]


def _observation_converter(space: spaces.Space[Any], image_size: tuple[int, int]) -> _Converter | None:
    """Return spec and conversion of one leaf space; None if it is not supported."""
    if isinstance(space, spaces.Box):
        if 0 in space.shape:
            return None
        if _is_image(space):
            return _image_converter(space, image_size)
        if len(space.shape) <= 2 and space.dtype is not None and space.dtype.kind in "fiub":
            return _vector_converter(space)
        return None
    if isinstance(space, spaces.Discrete):
        return _one_hot_converter(space, np.array([space.n]), np.array([space.start]))
    if isinstance(space, spaces.MultiDiscrete):
        return _one_hot_converter(space, space.nvec.reshape(-1), space.start.reshape(-1))
    if isinstance(space, spaces.MultiBinary):
        return _vector_converter(space)
    return None


def _is_image(space: spaces.Box) -> bool:
    if space.dtype in (np.uint8, np.bool_):
        return len(space.shape) in (2, 3)
    unit = bool((space.low >= 0).all() and (space.high <= 1).all())
    return len(space.shape) == 3 and np.issubdtype(space.dtype, np.floating) and unit


def _image_converter(space: spaces.Box, size: tuple[int, int]) -> _Converter:
    shape = space.shape if len(space.shape) == 3 else (*space.shape, 1)
    # Channels are the shortest axis, last unless the first is shorter still.
    channels_first = shape[0] < shape[2]
    channels = shape[0] if channels_first else shape[2]

    def convert(value: Any) -> Array:
        image = check_array(value, space)
        if space.dtype == np.bool_:
            image = image.astype(np.uint8) * np.uint8(255)
        elif space.dtype != np.uint8:
            if image.min() < 0 or image.max() > 1:
                raise InvalidStepError(f"has values outside [0, 1]: {image.min()} to {image.max()}")
            image = np.rint(image * 255).astype(np.uint8)
        image = image.reshape(shape)
        if channels_first:
            image = image.transpose(1, 2, 0)
        return resize(image, size)

    return ArraySpec((*size, channels), "uint8"), convert


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize uint8 `[h, w, C]` to `[*size, C]` by averaging areas; always a new array."""
    height, width = size
    if image.shape[:2] == (height, width):
        return np.array(image, order="C")
    result = np.empty((height, width, image.shape[2]), np.uint8)
    for start in range(0, image.shape[2], 4):  # OpenCV averages areas of at most four channels at once
        part = np.ascontiguousarray(image[:, :, start : start + 4])
        resized = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        result[:, :, start : start + 4] = resized.reshape(height, width, -1)
    return result


def _vector_converter(space: spaces.Box | spaces.MultiBinary) -> _Converter:
    size = int(np.prod(space.shape))
    # Bytes are scaled like pixels, as the release does with the console's memory (SPEC 3).
    scaled = space.dtype == np.uint8 and isinstance(space, spaces.Box)

    def convert(value: Any) -> Array:
        vector = check_array(value, space).astype(np.float32).reshape(size)
        return vector / np.float32(255) - np.float32(0.5) if scaled else vector

    return ArraySpec((size,), "float32"), convert


def _one_hot_converter(space: spaces.Space[Any], sizes: Integers, starts: Integers) -> _Converter:
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    total = int(sizes.sum())

    def convert(value: Any) -> Array:
        index = check_array(value, space).reshape(-1) - starts
        if (index < 0).any() or (index >= sizes).any():
            raise InvalidStepError(f"is {value}, which is not in {space}")
        vector = np.zeros(total, np.float32)
        vector[offsets + index] = 1
        return vector

    return ArraySpec((total,), "float32"), convert


def _action_converter(space: spaces.Space[Any], env: str) -> tuple[ActionSpec, Callable[[Array], Any]]:
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return ActionSpec("discrete", (int(space.n),)), lambda action: int(np.argmax(action)) + start
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
        return _multi_discrete(space)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating) and 0 not in space.shape:
        if np.isfinite(space.low).all() and np.isfinite(space.high).all():
            return _rescaled_box(space)
        raise EnvError(
            f"{env}: the action space {space} has no finite bounds. Actions in [-1, 1] cannot be rescaled to it. Give "
            "the Box bounds, or wrap the environment, with bounds that suit it: gymnasium.wrappers.TransformAction("
            f"env, lambda action: action, gymnasium.spaces.Box(-1, 1, {space.shape}))."
        )
    raise EnvError(f"{env}: the action space {space} is not supported; reverie acts in {SUPPORTED_ACTIONS}.")


def _multi_discrete(space: spaces.MultiDiscrete) -> tuple[ActionSpec, Callable[[Array], Any]]:
    sizes = tuple(int(size) for size in space.nvec)
    borders = np.cumsum(sizes)[:-1]

    def convert(action: Array) -> Any:
        parts = [part.argmax() for part in np.split(action, borders)]
        return (np.array(parts) + space.start).astype(space.dtype)

    return ActionSpec("discrete", sizes), convert


def _rescaled_box(space: spaces.Box) -> tuple[ActionSpec, Callable[[Array], Any]]:
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)

    def convert(action: Array) -> Any:
        unit = (np.clip(action, -1, 1).astype(np.float64).reshape(space.shape) + 1) / 2
        # The clip removes what rounding to the space's dtype adds at the bounds.
        return np.clip((low + unit * (high - low)).astype(space.dtype), space.low, space.high)

    return ActionSpec("continuous", (int(np.prod(space.shape)),)), convert


def env_name(env: gymnasium.Env[Any, Any]) -> str:
    """Return the registered id of an environment, or the name of its class."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
