"""Gymnasium spaces as JSON, so that a saved agent knows what its environment returned and took."""

from math import prod
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.specs import Array, EnvSpec

Space = spaces.Space[Any]

_MAX_SIZE = 1 << 25
"""Largest number of entries of a space that is read, enough for images of 4K."""
_MAX_DEPTH = 8


def env_spaces(env: gymnasium.Env[Any, Any]) -> dict[str, Any]:
    """Return the spaces of an environment as JSON, for `EnvSpec.spaces`."""
    return {"observation": space_to_json(env.observation_space), "action": space_to_json(env.action_space)}


def native_spaces(spec: EnvSpec) -> tuple[Space, Space]:
    """Return the observation and the action space of an environment.

    Args:
        spec: of the environment. Without `spec.spaces` they are those of the agent: a Dict of Box spaces, and Discrete,
            MultiDiscrete or Box(-1, 1).

    Raises:
        ValueError: if `spec.spaces` is something else; so may TypeError, LookupError and OverflowError.
    """
    if spec.spaces is not None:
        return space_from_json(spec.spaces["observation"]), space_from_json(spec.spaces["action"])
    observation = spaces.Dict(
        {
            key: spaces.Box(0, 255, entry.shape, np.uint8)
            if entry.is_image
            else spaces.Box(-np.inf, np.inf, entry.shape)
            for key, entry in spec.observations.items()
        }
    )
    sizes = spec.action.sizes
    if spec.action.kind == "continuous":
        return observation, spaces.Box(-1, 1, (spec.action.size,))
    return observation, spaces.Discrete(sizes[0]) if len(sizes) == 1 else spaces.MultiDiscrete(list(sizes))


def space_to_json(space: Space) -> dict[str, Any]:
    """Return a Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these, as values that JSON can hold.

    Raises:
        TypeError: if it is another space.
    """
    if isinstance(space, spaces.Dict):  # pairs, since their order counts
        return {"kind": "Dict", "spaces": [[key, space_to_json(child)] for key, child in space.spaces.items()]}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()} | _dtype(space)
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    if isinstance(space, spaces.Box):
        bounds = {"low": _bound_to_json(space.low), "high": _bound_to_json(space.high)}
        return {"kind": "Box", "shape": list(space.shape), **bounds} | _dtype(space)
    raise TypeError(f"{type(space).__name__} has no JSON form")


def space_from_json(data: Any) -> Space:
    """Return the space of which `space_to_json` returned this.

    Raises:
        ValueError: if it is something else, or too large; so may TypeError, LookupError and OverflowError.
    """
    try:
        return _from_json(data, 0)
    except AssertionError as error:  # Gymnasium's answer to wrong arguments
        raise ValueError(str(error)) from None


def _from_json(data: Any, depth: int) -> Space:
    kind = data["kind"]
    if kind == "Dict" and depth < _MAX_DEPTH:
        return spaces.Dict([(str(key), _from_json(child, depth + 1)) for key, child in data["spaces"]])
    if kind == "Discrete":
        return spaces.Discrete(_whole(data["n"], 1), start=_whole(data["start"]))
    if kind == "MultiDiscrete":
        dtype = _checked_dtype(data["dtype"], "iu")
        return spaces.MultiDiscrete(np.array(data["nvec"], dtype), dtype, start=np.array(data["start"], dtype))
    if kind == "MultiBinary":
        shape = _shape(data)
        return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    if kind == "Box":
        shape, dtype = _shape(data), _checked_dtype(data["dtype"], "fiub")
        low, high = (_bound_from_json(data[name], shape, dtype) for name in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    raise ValueError(f"there is no space {str(kind)[:20]}")


def _dtype(space: Space) -> dict[str, str]:
    return {"dtype": str(np.dtype(space.dtype))}


def _checked_dtype(name: Any, kinds: str) -> np.dtype[Any]:
    dtype = np.dtype(str(name))
    if dtype.kind not in kinds:
        raise ValueError(f"no space has the dtype {dtype}")
    return dtype


def _bound_to_json(bound: Array) -> Any:
    """Return one number where all are equal, else a flat list; infinities as text, which JSON has no number for."""
    flat = bound.reshape(-1)
    values = flat[:1] if flat.size and (flat == flat[0]).all() else flat
    entries = [value if np.isfinite(value) else str(value) for value in values.tolist()]
    return entries[0] if len(values) < flat.size or flat.size == 1 else entries


def _bound_from_json(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if isinstance(value, list):
        return np.array([float(v) if isinstance(v, str) else v for v in value], dtype).reshape(shape)
    return np.full(shape, float(value) if isinstance(value, str) else value, dtype)


def _shape(data: Any) -> tuple[int, ...]:
    shape = tuple(_whole(length, 1) for length in data["shape"])
    if prod(shape) > _MAX_SIZE:
        raise ValueError(f"a space of shape {shape} is too large")
    return shape


def _whole(number: Any, least: int = -(1 << 62)) -> int:
    if type(number) is not int or not least <= number < 1 << 62:
        raise ValueError(f"{str(number)[:20]} is no valid size of a space")
    return number
