"""Nested spaces and checks of values, for observations and actions.

`observations.py` converts Gymnasium's observations to the arrays of `specs.py`, `actions.py` the agent's actions to
Gymnasium's.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

_LARGEST = np.finfo(np.float32).max
LARGEST = float(_LARGEST)
LARGEST_BOUND = 1e9
"""Bounds of a Box from this size on count as none: float32's largest number is often written where there is none."""

Space = spaces.Space[Any]
Path = tuple[str | int, ...]
"""Keys of nested Dict spaces and indices of Tuple spaces, from the outermost one."""


class InvalidStepError(Exception):
    """A value that an environment returned does not fit."""


def leaves(space: Space, path: Path = ()) -> list[tuple[Path, Space]]:
    """Return the spaces that nested Dict and Tuple spaces are made of, each with its path, in their order."""
    match space:
        case spaces.Dict():
            children: Any = space.spaces.items()
        case spaces.Tuple():
            children = enumerate(space.spaces)
        case _:
            return [(path, space)]
    return [leaf for key, child in children for leaf in leaves(child, (*path, key))]


def nest(space: Space, values: Iterator[Any]) -> Any:
    """Return a value of a nested space, given one value for each of its `leaves`."""
    match space:
        case spaces.Dict():
            return {key: nest(child, values) for key, child in space.spaces.items()}
        case spaces.Tuple():
            return tuple(nest(child, values) for child in space.spaces)
    return next(values)


def check_array(value: Any, space: Space) -> NDArray[Any]:
    """Return `value` as an array, if shape and dtype fit the space and every number is finite as float32.

    Floats of any width pass for floats, integers and bools of any width for integers; uint8 must be uint8, and bool
    must be bool, since a conversion would hide values that do not fit.
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
    # As a Python number it would become float16's infinity beside float16.
    if array.dtype.kind == "f" and not (np.abs(array) <= _LARGEST).all():
        raise InvalidStepError("contains NaN" if np.isnan(array).any() else "contains infinity, or numbers near it")
    return array
