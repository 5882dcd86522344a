"""Conversion of recorded observations and actions to the agent's, whole episodes at a time."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.data.episodes import SPACES, as_float32, check_key
from reverie.envs.actions import REACH
from reverie.envs.space_json import adapt
from reverie.envs.spaces import LARGEST_BOUND, InvalidStepError, Space, check_array
from reverie.errors import DataError
from reverie.runs.atomic_io import Unreadable
from reverie.specs import ActionSpec, Array, EnvSpec, Step


class EpisodeAdapter:
    """Converter of episodes recorded in an environment with these spaces.

    Observations are converted as those of a live environment are (`envs.observations`): images to 64x64 bytes, all
    else to float32 vectors. Actions are the inverse of what `envs.actions` does with the agent's.

    Args:
        observation: the environment's observation space.
        action: its action space, not nested.
        name: of the recording, for messages.

    Attributes:
        action_space: the given one.
        spec: observations and actions of the agent.
        notes: sentences about what is left out or changed.
    """

    def __init__(self, observation: Space, action: Space, name: str) -> None:
        self._observe, act, self.spec = adapt(observation, action, name)
        self.notes = list(self.spec.notes)
        self.action_space = action
        self._name = name
        for key, entry in self._observe.entries.items():
            check_key(key)
            shape, dtype = entry.space.shape, entry.space.dtype
            if entry.spec.is_image and shape != entry.spec.shape:
                self.notes.append(f"Images '{key}' of shape {shape} are stored as {entry.spec.shape}.")
            elif not entry.spec.is_image and dtype not in (np.float32, np.bool_):
                self.notes.append(f"Observations '{key}' of {dtype} become float32.")
        if isinstance(action, spaces.Dict | spaces.Tuple):
            raise DataError(f"{name} has actions of nested spaces. It was not read. Store them as one array.")
        if act.spec.kind == "continuous" and not _is_unit(action):
            self.notes.append(f"Actions of {_bounds(action)} are scaled to [-1, 1], and rounded to float32.")

    def matching(self, stored: EnvSpec | None) -> EnvSpec:
        """Return the spec that is stored next to the episodes, or that of the adapter if there is none."""
        if stored is None:
            return self.spec
        if stored != self.spec:
            raise DataError(
                f"{self._name} has other episodes than its {SPACES} says. Nothing was done. Delete that file."
            )
        return stored

    def observations(self, values: Any, length: int) -> Step:
        """Convert so many observations, nested as the space is, each an array with a leading axis of time."""
        try:
            return self.entries(self._observe.split(values), length)
        except InvalidStepError as error:
            raise Unreadable(f"does not fit: {error}") from None

    def entries(self, values: Mapping[str, Any], length: int) -> Step:
        """Convert some entries of so many observations, arrays with a leading axis of time by key."""
        return {key: self._convert(key, np.asarray(rows), length) for key, rows in values.items()}

    def images(self, key: str, frames: Iterable[Array], limit: int) -> Array:
        """Convert at most `limit` pictures one at a time, since large ones would not fit into memory together."""
        converted = []
        for number, frame in enumerate(frames):
            if number == limit:
                raise Unreadable(f"has more than {limit} pictures in an episode")
            converted.append(self._convert(key, frame[None], 1))
        return np.concatenate(converted) if converted else np.zeros((0, *self.spec.observations[key].shape), np.uint8)

    def actions(self, actions: Array) -> Array:
        """Convert actions of the space, [T, ...], to the agent's, float32 [T, A]; those of a Discrete may be [T, 1]."""
        if isinstance(self.action_space, spaces.Discrete) and actions.shape[1:] == (1,):
            actions = actions[:, 0]
        shape = (len(actions), *(self.action_space.shape or ()))
        if actions.shape != shape:
            raise Unreadable(f"has actions of shape {actions.shape} where {shape} is needed")
        if self.spec.action.kind == "continuous":
            return _scale(as_float32(actions, "action"), actions, self.action_space)
        first = getattr(self.action_space, "start", getattr(self.action_space, "low", 0))
        if actions.dtype.kind not in "biu" and not (actions == np.rint(actions)).all():
            raise Unreadable("has actions that are no whole numbers")
        classes = actions.astype(np.int64) - np.asarray(first, np.int64)
        return one_hot(classes.reshape(len(actions), len(self.spec.action.sizes)), self.spec.action)

    def _convert(self, key: str, rows: Array, length: int) -> Array:
        _, space, spec, convert = self._observe.entries[key]
        if rows.ndim == 0 or len(rows) != length:
            raise Unreadable(f"has '{key}' of shape {rows.shape} where {length} rows are needed")
        if space.shape == spec.shape and rows.shape[1:] == spec.shape and rows.dtype == space.dtype == spec.dtype:
            return rows if rows.dtype == np.uint8 else as_float32(rows, key)
        try:
            return np.stack([convert(check_array(row, space)) for row in rows])
        except InvalidStepError as error:
            raise Unreadable(f"has an observation '{key}' that {error}") from None


def box_spaces(observations: Mapping[str, Array]) -> Space:
    """Return the space of observations [T, ...] by key, of which nothing but shape and dtype is known."""
    return spaces.Dict([(check_key(key), _box(rows)) for key, rows in observations.items()])


def agent_spaces(spec: EnvSpec) -> tuple[Space, Space]:
    """Return the spaces of observations and actions as the agent sees them.

    Actions are Discrete or MultiDiscrete, or a Box from -1 to 1.
    """
    boxes: dict[str, Space] = {
        key: spaces.Box(0, 255, entry.shape, np.uint8) if entry.is_image else spaces.Box(-np.inf, np.inf, entry.shape)
        for key, entry in spec.observations.items()
    }
    return spaces.Dict([*boxes.items()]), agent_action_space(spec.action)


def agent_action_space(spec: ActionSpec) -> Space:
    """Return the space of the agent's actions."""
    if spec.kind == "continuous":
        return spaces.Box(-1, 1, spec.sizes)
    return spaces.Discrete(spec.sizes[0]) if len(spec.sizes) == 1 else spaces.MultiDiscrete(list(spec.sizes))


def scaled_box(actions: Array) -> Space:
    """Return the space of continuous actions [N, A]: from -1 to 1 where they are, else their own range."""
    low, high = actions.min(0), actions.max(0)
    if (low >= -1).all() and (high <= 1).all():
        return spaces.Box(-1, 1, low.shape)
    low, high = low.astype(np.float64), high.astype(np.float64)
    return spaces.Box(low, np.where(high > low, high, low + 1), dtype=np.float64)


def infer_action_space(actions: Array) -> Space:
    """Return the space of the agent's actions [T, A]: Discrete where all are one-hot, but for a first one of zeros."""
    rows = actions[1:] if len(actions) and not actions[0].any() else actions
    if actions.ndim != 2 or not actions.shape[1]:
        raise Unreadable(f"has actions of shape {actions.shape} where [T, A] is needed")
    is_one_hot = len(rows) and ((rows == 0) | (rows == 1)).all() and (rows.sum(1) == 1).all()
    width = actions.shape[1]
    return spaces.Discrete(width) if is_one_hot and width > 1 else spaces.Box(-1, 1, (width,))


def one_hot(classes: Array, spec: ActionSpec) -> Array:
    """Return one-hot actions float32 [T, A], given the classes of each categorical, integers [T, K]."""
    if (classes < 0).any() or (classes >= np.array(spec.sizes)).any():
        raise Unreadable(f"has an action outside of its {' x '.join(map(str, spec.sizes))} classes")
    parts = [np.eye(size, dtype=np.float32)[column] for size, column in zip(spec.sizes, classes.T, strict=True)]
    return np.concatenate(parts, 1)


def to_classes(actions: Array, spec: ActionSpec) -> Array:
    """Return the classes of one-hot actions, int64 [T, K]: invert `one_hot`."""
    parts = np.split(actions, np.cumsum(spec.sizes)[:-1], 1)
    return np.stack([part.argmax(1) for part in parts], 1)


def _box(rows: Array) -> Space:
    if rows.dtype == np.bool_:
        return spaces.MultiBinary(rows.shape[1:] or (1,))
    if rows.dtype == np.uint8:
        return spaces.Box(0, 255, rows.shape[1:], np.uint8)
    if rows.dtype.kind not in "fiu":
        raise Unreadable(f"has observations of {rows.dtype}, which are no numbers")
    limit = np.inf if rows.dtype.kind == "f" else np.iinfo(rows.dtype).max
    low = 0 if rows.dtype.kind == "u" else -limit
    return spaces.Box(low, limit, rows.shape[1:], dtype=rows.dtype.type)


def _bounds(box: Any) -> str:
    pairs = [f"[{low:.4g}, {high:.4g}]" for low, high in zip(box.low.flat, box.high.flat, strict=True)]
    return " x ".join([*dict.fromkeys(pairs)][:6])


def _is_unit(box: Space) -> bool:
    return (
        isinstance(box, spaces.Box) and box.dtype == np.float32 and bool((box.low == -1).all() & (box.high == 1).all())
    )


def _scale(rounded: Array, actions: Array, box: Space) -> Array:
    """Return values of a Box as float32 [T, A] in [-1, 1], bit for bit where those are its bounds."""
    assert isinstance(box, spaces.Box)
    if _is_unit(box):
        return rounded.reshape(len(actions), -1)
    low, high, values = (each.astype(np.float64) for each in (box.low, box.high, actions))
    has_low, has_high = low > -LARGEST_BOUND, high < LARGEST_BOUND
    if (values < low - 1e-3 * np.abs(low)).any() or (values > high + 1e-3 * np.abs(high)).any():
        raise Unreadable("has actions outside the bounds of their space")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        inside = (values - low) / np.where(high > low, high - low, 1) * 2 - 1
        above, below = 2 * np.tanh(values - low) / REACH - 1, 1 - 2 * np.tanh(high - values) / REACH
        cases = [has_low & has_high, has_low & ~has_high, has_high & ~has_low]
        cases = [np.broadcast_to(case, values.shape) for case in cases]
        scaled = np.select(cases, [inside, above, below], np.tanh(values) / REACH)
    return np.clip(scaled, -1, 1).astype(np.float32).reshape(len(actions), -1)
