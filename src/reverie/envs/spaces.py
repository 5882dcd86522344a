"""Conversion of Gymnasium's observations to the arrays of `specs.py`, and of the agent's actions to Gymnasium's.

Observations become uint8 images of 64x64 pixels, or float32 vectors. Each entry of a (nested) Dict space stays apart.
A space that is not supported raises `EnvError`, a value that does not fit its space `InvalidStepError`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from reverie.errors import EnvError
from reverie.specs import RESERVED_KEYS, ActionSpec, Array, ArraySpec

SUPPORTED_OBSERVATIONS = (
    "images (Box of uint8 or bool with 2 or 3 dimensions, or of floats in [0, 1] with 3), vectors (Box), Discrete, "
    "MultiDiscrete, MultiBinary, and Dict of these"
)
SUPPORTED_ACTIONS = "Discrete, MultiDiscrete with one dimension, and Box of floats with finite bounds"
IMAGE_SIZE = (64, 64)
"""Height and width of images in pixels, which the convolutions need."""
LARGEST = float(np.finfo(np.float32).max)

Space = spaces.Space[Any]
Converter = Callable[[Array], Array]


class InvalidStepError(Exception):
    """A value that an environment returned does not fit."""


class Entry(NamedTuple):
    """Entry of an observation: its place in a nested Dict, its space, and its form for the agent."""

    path: tuple[str, ...]
    space: Space
    spec: ArraySpec
    convert: Converter


class ObservationAdapter:
    """Converter of observations of `space` to flat dictionaries of arrays.

    A bare image gets the key `image`, any other bare observation `vector`; keys of nested Dicts are joined with "/".

    Attributes:
        entries: entries by key, in the order of the space.
    """

    def __init__(self, space: Space, env: str) -> None:
        self.entries: dict[str, Entry] = {}
        for path, leaf in _leaves(space):
            found = _observation_converter(leaf)
            if found is None:
                where = f" under key '{'/'.join(path)}'" if path else ""
                raise EnvError(
                    f"{env}: the observation space {leaf}{where} is not supported; "
                    f"reverie reads {SUPPORTED_OBSERVATIONS}. Convert it with a gymnasium.ObservationWrapper."
                )
            spec, convert = found
            key = "/".join(path) or ("image" if spec.is_image else "vector")
            if key in RESERVED_KEYS or key in self.entries:
                raise EnvError(f"{env}: the observation key '{key}' is taken; rename it in the environment.")
            self.entries[key] = Entry(path, leaf, spec, convert)
        if not self.entries:
            raise EnvError(f"{env}: the observation space {space} is empty; reverie reads {SUPPORTED_OBSERVATIONS}.")

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
            for part in entry.path:
                if not isinstance(values[key], Mapping) or part not in values[key]:
                    raise InvalidStepError(f"observation entry '{key}' is missing")
                values[key] = values[key][part]
        return values

    def convert(self, values: Mapping[str, Any]) -> dict[str, Array]:
        """Convert the result of `split` for one observation."""
        result = {}
        for key, (_, space, _, convert) in self.entries.items():
            try:
                result[key] = convert(check_array(values[key], space))
            except InvalidStepError as error:
                raise InvalidStepError(f"observation '{key}' {error}") from None
        return result


class ActionAdapter:
    """Converter of the agent's action vectors `[A]` to actions of `space`.

    Attributes:
        spec: form of the agent's actions.
    """

    def __init__(self, space: Space, env: str) -> None:
        self._space: Any = space
        if isinstance(space, spaces.Discrete):
            self.spec = ActionSpec("discrete", (int(space.n),))
        elif isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
            self.spec = ActionSpec("discrete", tuple(space.nvec.tolist()))
        elif isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating) and 0 not in space.shape:
            if not space.is_bounded():
                raise EnvError(
                    f"{env}: the action space {space} has no finite bounds. Actions in [-1, 1] cannot be rescaled to "
                    "it. Give the Box bounds, or wrap the environment, with bounds that suit it: "
                    "gymnasium.wrappers.TransformAction(env, lambda action: action, "
                    f"gymnasium.spaces.Box(-1, 1, {space.shape}))."
                )
            self.spec = ActionSpec("continuous", (spaces.flatdim(space),))
        else:
            raise EnvError(f"{env}: the action space {space} is not supported; reverie acts in {SUPPORTED_ACTIONS}.")

    def __call__(self, action: Array) -> Any:
        """Convert one action."""
        space = self._space
        if self.spec.kind == "continuous":
            low, high = space.low, space.high
            unit = (np.clip(action, -1, 1).astype(np.float64).reshape(space.shape) + 1) / 2
            # The clip removes what rounding to the space's dtype adds at the bounds.
            return np.clip((low + unit * (high.astype(np.float64) - low)).astype(space.dtype), low, high)
        if isinstance(space, spaces.Discrete):
            return int(action.argmax()) + int(space.start)
        classes = [part.argmax() for part in _split(action, self.spec)]
        return (np.array(classes) + space.start).astype(space.dtype)


def check_actions(actions: Array, spec: ActionSpec, num_envs: int) -> Array:
    """Return actions `[N, A]` as float32, if they are one-hot where discrete (up to float noise), finite otherwise.

    Source: the one-hot check of SPEC 39.
    """
    actions = np.asarray(actions, np.float32)
    if actions.shape != (num_envs, spec.size):
        raise EnvError(f"The actions have shape {actions.shape}, but {(num_envs, spec.size)} is needed.")
    is_valid = np.isfinite(actions).all() if spec.kind == "continuous" else True
    for part in _split(actions, spec) if spec.kind == "discrete" else ():
        distance = np.abs(np.maximum.reduce(part, 1) - 1) + np.abs(np.add.reduce(np.abs(part), 1) - 1)
        is_valid = is_valid and (distance <= 1e-3).all()  # which NaN is not
    if not is_valid and not np.isfinite(actions).all():
        raise EnvError("The agent's actions contain NaN or infinity; the policy has probably diverged.")
    if not is_valid:
        raise EnvError(f"Discrete actions must be one-hot vectors, not {actions.tolist()}.")
    return actions


def _split(actions: Array, spec: ActionSpec) -> list[Array]:
    return [actions] if len(spec.sizes) == 1 else np.split(actions, np.cumsum(spec.sizes)[:-1], -1)


def check_array(value: Any, space: Space) -> NDArray[Any]:
    """Return `value` as an array, if shape and dtype fit the space and every number is finite as float32.

    Floats of any width pass for floats, integers and bools of any width for integers of a vector; images (uint8)
    must be uint8, since a conversion would hide values that do not fit.
    """
    try:
        array = np.asarray(value)
    except Exception as error:
        raise InvalidStepError(f"is no array ({error})") from None
    if array.shape != space.shape:
        raise InvalidStepError(f"has shape {array.shape}, but the space says {space.shape}")
    declared = np.dtype(space.dtype)
    is_exact = declared in (np.uint8, np.bool_)
    if array.dtype != declared if is_exact else array.dtype.kind not in ("fiub" if declared.kind == "f" else "iub"):
        raise InvalidStepError(f"has dtype {array.dtype}, but the space says {declared}")
    if array.dtype.kind == "f" and not (np.abs(array) <= LARGEST).all():
        raise InvalidStepError("contains NaN" if np.isnan(array).any() else "contains infinity, or numbers near it")
    return array


def _leaves(space: Space, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Space]]:
    if isinstance(space, spaces.Dict):
        return [leaf for key, child in space.spaces.items() for leaf in _leaves(child, (*path, key))]
    return [(path, space)]


def _observation_converter(space: Space) -> tuple[ArraySpec, Converter] | None:
    is_box, is_index = isinstance(space, spaces.Box), isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
    if 0 in (space.shape or ()):
        return None
    if isinstance(space, spaces.Box) and _is_image(space):
        return _image_converter(space)
    is_numeric = is_box and len(space.shape or ()) <= 2 and np.dtype(space.dtype).kind in "fiub"
    if not (is_numeric or is_index or isinstance(space, spaces.MultiBinary)):
        return None

    def convert(array: Array) -> Array:
        if is_index:
            index = array.astype(space.dtype)
            if not space.contains(index):
                raise InvalidStepError(f"is {array}, which is not in {space}")
            array = np.asarray(spaces.flatten(space, index))  # one-hot
        vector = array.astype(np.float32).reshape(-1)
        # Bytes are scaled like pixels, as the release does with the console's memory (SPEC 3).
        return vector / np.float32(255) - np.float32(0.5) if is_box and space.dtype == np.uint8 else vector

    return ArraySpec((spaces.flatdim(space),), "float32"), convert


def _is_image(space: spaces.Box) -> bool:
    if space.dtype in (np.uint8, np.bool_):
        return len(space.shape) in (2, 3)
    unit = bool((space.low >= 0).all() and (space.high <= 1).all())
    return len(space.shape) == 3 and np.issubdtype(space.dtype, np.floating) and unit


def _image_converter(space: spaces.Box) -> tuple[ArraySpec, Converter]:
    shape = space.shape if len(space.shape) == 3 else (*space.shape, 1)
    # Channels are the shortest axis, last unless the first is shorter still.
    channels_first = shape[0] < shape[2]

    def convert(image: Array) -> Array:
        if space.dtype != np.uint8:
            if image.min() < 0 or image.max() > 1:
                raise InvalidStepError(f"has values outside [0, 1]: {image.min()} to {image.max()}")
            image = np.rint(image * 255).astype(np.uint8)
        image = image.reshape(shape)
        return resize(image.transpose(1, 2, 0) if channels_first else image)

    return ArraySpec((*IMAGE_SIZE, shape[0] if channels_first else shape[2]), "uint8"), convert


def resize(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize uint8 `[h, w, C]` to `[64, 64, C]` by averaging areas; always a new array."""
    if image.shape[:2] == IMAGE_SIZE:
        return np.array(image, order="C")
    # OpenCV averages areas of at most four channels at once.
    parts = [np.ascontiguousarray(image[:, :, start : start + 4]) for start in range(0, image.shape[2], 4)]
    resized = [cv2.resize(part, IMAGE_SIZE[::-1], interpolation=cv2.INTER_AREA) for part in parts]
    return np.concatenate([part.reshape(*IMAGE_SIZE, -1) for part in resized], 2, dtype=np.uint8)
