"""What an environment returns is checked here, so that a fault is found where it starts and not in a loss."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

_LARGEST = float(np.finfo(np.float32).max)


class Complaint(Exception):
    """Something is wrong with a value; whoever knows environment and step turns it into an `EnvError`."""


def check_array(value: Any, space: spaces.Space[Any]) -> NDArray[Any]:
    """Return `value` as an array, if shape and dtype fit the space and every number is finite as float32.

    Floats of any width pass for floats, integers and bools of any width for integers of a vector; images (uint8)
    must be uint8, since a conversion would hide values that do not fit.

    Raises:
        Complaint: otherwise.
    """
    try:
        array = np.asarray(value)
    except Exception as error:
        raise Complaint(f"is no array ({error})") from None
    if array.shape != space.shape:
        raise Complaint(f"has shape {array.shape}, but the space says {space.shape}")
    if not _dtype_fits(array.dtype, np.dtype(space.dtype)):
        raise Complaint(f"has dtype {array.dtype}, but the space says {space.dtype}")
    if array.dtype.kind == "f" and not (np.abs(array) <= _LARGEST).all():
        raise Complaint("contains NaN" if np.isnan(array).any() else "contains infinity, or numbers near it")
    return array


def _dtype_fits(actual: np.dtype[Any], declared: np.dtype[Any]) -> bool:
    if actual == declared:
        return True
    if declared.kind == "f":
        return actual.kind in "fiub"
    if declared in (np.uint8, np.bool_):
        return False
    return actual.kind in "iub"


def check_reward(reward: Any) -> float:
    """Return the reward as a float that is finite as float32, too.

    Raises:
        Complaint: if it is something else.
    """
    try:
        number = float(reward)
    except (TypeError, ValueError):
        raise Complaint(f"the reward is {reward!r}, which is no number") from None
    if not abs(number) <= _LARGEST:
        raise Complaint(f"the reward is {number}")
    return number


def check_reset_result(result: Any) -> Any:
    """Return the observation of what `reset` returned.

    Raises:
        Complaint: if it is not `(observation, info)`.
    """
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise Complaint("reset() did not return (observation, info), as Gymnasium's environments do")
    return result[0]


def check_step_result(result: Any) -> tuple[Any, float, bool, bool]:
    """Return observation, reward, terminated and truncated of what `step` returned.

    Raises:
        Complaint: if it is not `(observation, reward, terminated, truncated, info)`, or the reward is not finite.
    """
    if not (isinstance(result, tuple) and len(result) == 5):
        found = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        raise Complaint(
            f"step() returned {found} instead of (observation, reward, terminated, truncated, info), "
            "as Gymnasium's environments do"
        )
    observation, reward, terminated, truncated, _ = result
    return observation, check_reward(reward), bool(terminated), bool(truncated)
