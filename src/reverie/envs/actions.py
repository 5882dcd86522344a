"""Conversion of the agent's action vectors to Gymnasium's actions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from reverie.envs.spaces import LARGEST_BOUND, Space, leaves, nest
from reverie.errors import EnvError
from reverie.specs import ActionSpec, Array

SUPPORTED = "Discrete, MultiDiscrete, MultiBinary, Box, and Dict and Tuple of these"
MAX_CLASSES = 32
"""Largest number of values of an entry of an integer Box that is a categorical; with more it is continuous."""
REACH = 0.999
"""Share of [-1, 1] that atanh maps to an unbounded Box, so that its largest action is 3.8."""

_DISCRETE = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


class ActionAdapter:
    """Converter of the agent's action vectors `[A]` to actions of `space`.

    All entries of a nested space are one vector: either categoricals or continuous values. A Box of integers is made of
    categoricals where each entry has at most `MAX_CLASSES` values and no other part is continuous; else its continuous
    values are rounded. Values in [-1, 1] are scaled to the bounds of a Box. Where it has none, the value is
    `atanh(REACH * a)`; with one bound it is that bound and `atanh(REACH * (1 + a) / 2)` beyond it.

    Args:
        space: the environment's action space.
        env: name of the environment for messages.

    Attributes:
        spec: form of the agent's actions.
        notes: sentences that say what is squashed or rounded.

    Raises:
        EnvError: if the space has other parts, or both discrete and continuous ones.
    """

    def __init__(self, space: Space, env: str) -> None:
        self._space = space
        self.notes: list[str] = []
        parts = [part for _, part in leaves(space)]
        discrete = [part for part in parts if isinstance(part, _DISCRETE) and 0 not in (part.shape or ())]
        boxes = [part for part in parts if isinstance(part, spaces.Box) and 0 not in part.shape]
        kind = type(space).__name__
        if not parts or len(discrete) + len(boxes) < len(parts):
            raise EnvError(f"{env}: the action space {kind} is not supported; reverie acts in {SUPPORTED}.")
        continuous = [box for box in boxes if not _is_countable(box)]
        if discrete and continuous:
            raise EnvError(
                f"{env}: the action space {kind} has discrete and continuous parts. The actor has one kind only. "
                "Convert one of them with a gymnasium.ActionWrapper."
            )
        if continuous:
            widths = [spaces.flatdim(box) for box in boxes]
            self.spec = ActionSpec("continuous", (sum(widths),))
            self._converters = [_box_converter(box) for box in boxes]
            for box in boxes:
                self._note(box)
        else:
            classes = [_class_converter(part) for part in parts]
            widths = [sum(sizes) for sizes, _ in classes]
            self.spec = ActionSpec("discrete", tuple(size for sizes, _ in classes for size in sizes))
            self._converters = [convert for _, convert in classes]
        self._is_nested = isinstance(space, spaces.Dict | spaces.Tuple)
        self._borders = np.cumsum(widths)[:-1]

    def __call__(self, action: Array) -> Any:
        """Convert one action."""
        if not self._is_nested:
            return self._converters[0](action)
        parts = np.split(action, self._borders)
        return nest(self._space, (convert(part) for convert, part in zip(self._converters, parts, strict=True)))

    def join(self, actions: Sequence[Any]) -> Any:
        """Return the actions of several environments as `gymnasium.vector` takes them: arrays with a leading axis."""
        batch: Any = create_empty_array(self._space, len(actions))
        return concatenate(self._space, actions, batch)

    def _note(self, box: spaces.Box) -> None:
        if not all(bounds.all() for bounds in _bounded(box)):
            self.notes.append(
                f"The action space of shape {box.shape} has no bounds: actions are squashed by atanh, up to 3.8 from 0 "
                "or from its one bound; give the Box bounds that suit the task."
            )
        if np.dtype(box.dtype).kind != "f":
            self.notes.append(f"The actions {box} are continuous for the agent, and rounded.")


def check_actions(actions: Array, spec: ActionSpec, num_envs: int) -> Array:
    """Return actions `[N, A]` as float32, if they are one-hot where discrete (up to float noise), finite otherwise.

    Source: the one-hot check of SPEC 39.
    """
    actions = np.asarray(actions, np.float32)
    if actions.shape != (num_envs, spec.size):
        raise EnvError(f"The actions have shape {actions.shape}, but {(num_envs, spec.size)} is needed.")
    is_valid = np.isfinite(actions).all() if spec.kind == "continuous" else True
    for part in _split(actions, spec.sizes) if spec.kind == "discrete" else ():
        distance = np.abs(np.maximum.reduce(part, 1) - 1) + np.abs(np.add.reduce(np.abs(part), 1) - 1)
        is_valid = is_valid and (distance <= 1e-3).all()  # which NaN is not
    if not is_valid and not np.isfinite(actions).all():
        raise EnvError("The agent's actions contain NaN or infinity; the policy has probably diverged.")
    if not is_valid:
        raise EnvError(f"Discrete actions must be one-hot vectors, not {actions.tolist()}.")
    return actions


def _split(actions: Array, sizes: Sequence[int]) -> list[Array]:
    return [actions] if len(sizes) == 1 else np.split(actions, np.cumsum(sizes)[:-1], -1)


def _is_countable(box: spaces.Box) -> bool:
    return np.dtype(box.dtype).kind != "f" and bool(
        (box.high.astype(np.float64) - box.low.astype(np.float64) < MAX_CLASSES).all()
    )


def _classes(space: Any) -> tuple[Any, Any]:
    """Return the number of values of each entry, and the smallest one."""
    match space:
        case spaces.Discrete():
            return space.n, int(space.start)
        case spaces.MultiDiscrete():
            return space.nvec, space.start
        case spaces.MultiBinary():
            return np.full(space.shape, 2), 0
    low = space.low.astype(np.int64)
    return space.high.astype(np.int64) - low + 1, low


def _class_converter(space: Space) -> tuple[list[int], Callable[[Array], Any]]:
    numbers, first = _classes(space)
    sizes = np.ravel(numbers).tolist()
    if isinstance(space, spaces.Discrete):
        return sizes, lambda action: int(action.argmax()) + first

    def convert(action: Array) -> Array:
        classes = np.array([part.argmax() for part in _split(action, sizes)])
        return np.asarray(classes.reshape(space.shape or ()) + first, space.dtype)

    return sizes, convert


def _bounded(box: spaces.Box) -> tuple[Any, Any]:
    return box.low.astype(np.float64) > -LARGEST_BOUND, box.high.astype(np.float64) < LARGEST_BOUND


def _box_converter(box: spaces.Box) -> Callable[[Array], Array]:
    has_low, has_high = _bounded(box)
    is_bounded = bool((has_low & has_high).all())
    is_integer = np.dtype(box.dtype).kind != "f"
    low, high = np.where(has_low, box.low, 0).astype(np.float64), np.where(has_high, box.high, 0).astype(np.float64)

    def convert(action: Array) -> Array:
        action = np.clip(action, -1, 1).astype(np.float64).reshape(box.shape)
        values = low + (action + 1) / 2 * (high - low)
        if not is_bounded:
            above = low + np.arctanh(REACH * (1 + action) / 2)
            below = high - np.arctanh(REACH * (1 - action) / 2)
            cases = [has_low & has_high, has_low, has_high]
            values = np.select(cases, [values, above, below], np.arctanh(REACH * action))
        values = np.rint(values) if is_integer else values
        # The clip removes what rounding to the space's dtype adds at the bounds.
        return np.asarray(np.clip(values.astype(box.dtype), box.low, box.high))

    return convert
