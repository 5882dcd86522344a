"""Check what an environment returns, so that a fault is found at its source and not in a loss."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

_LARGEST = float(np.finfo(np.float32).max)


class InvalidStepError(Exception):
    """A value does not fit; `StepWrapper` adds environment and step and raises an `EnvError`."""


def check_array(value: Any, space: spaces.Space[Any]) -> NDArray[Any]:
    """Return `value` as an array, if shape and dtype fit the space and every number is finite as float32.

    Floats of any width pass for floats, integers and bools of any width for integers of a vector; images (uint8)
    must be uint8, since a conversion would hide values that do not fit.

    Raises:
        InvalidStepError: otherwise.
    """
    try:
        array = np.asarray(value)
    except Exception as error:
        raise InvalidStepError(f"is no array ({error})") from None
    if array.shape != space.shape:
        raise InvalidStepError(f"has shape {array.shape}, but the space says {space.shape}")
    if not _dtype_fits(array.dtype, np.dtype(space.dtype)):
        raise InvalidStepError(f"has dtype {array.dtype}, but the space says {space.dtype}")
    if array.dtype.kind == "f" and not (np.abs(array) <= _LARGEST).all():
        raise InvalidStepError("contains NaN" if np.isnan(array).any() else "contains infinity, or numbers near it")
    return array


def _dtype_fits(actual: np.dtype[Any], declared: np.dtype[Any]) -> bool:
    if actual == declared or declared in (np.uint8, np.bool_):
        return actual == declared
    return actual.kind in ("fiub" if declared.kind == "f" else "iub")


def check_reset_result(result: Any) -> Any:
    """Return the observation of a result of `reset`.

    Raises:
        InvalidStepError: if it is not `(observation, info)`.
    """
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise InvalidStepError("reset() did not return (observation, info), as Gymnasium's environments do")
    return result[0]


def check_step_result(result: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """Return observation, reward, terminated, truncated and info of a result of `step`.

    Raises:
        InvalidStepError: if it is something else, or the reward is not finite as float32.
    """
    if not (isinstance(result, tuple) and len(result) == 5 and isinstance(result[4], dict)):
        found = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        found = f"a {type(result[4]).__name__} as info" if found == "5 values" else found
        raise InvalidStepError(
            f"step() returned {found} instead of (observation, reward, terminated, truncated, info), "
            "as Gymnasium's environments do"
        )
    observation, reward, terminated, truncated, info = result
    try:
        number = float(reward)
    except (TypeError, ValueError):
        raise InvalidStepError(f"the reward is {reward!r}, which is no number") from None
    if not abs(number) <= _LARGEST:
        raise InvalidStepError(f"the reward is {number}")
    return observation, number, bool(terminated), bool(truncated), info
