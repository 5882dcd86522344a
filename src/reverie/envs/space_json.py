"""Specs of environments as JSON, by their Gymnasium spaces, so that a saved agent knows what its environment takes."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.envs.actions import ActionAdapter
from reverie.envs.observations import ObservationAdapter, is_read
from reverie.envs.spaces import Space
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec

_ATTRIBUTES: dict[type[Space], tuple[str, ...]] = {
    spaces.Box: ("shape", "dtype", "low", "high"),
    spaces.Discrete: ("n", "start"),
    spaces.MultiDiscrete: ("shape", "dtype", "nvec", "start"),
    spaces.MultiBinary: ("shape",),
}
_MAX_SIZE = 1 << 25
"""Largest number of entries of a space that is read, enough for images of 4K."""
_MAX_DEPTH = 8


def adapt(
    observation: Space, action: Space, env: str, image_keys: Sequence[str] = (), vector_keys: Sequence[str] = ()
) -> tuple[ObservationAdapter, ActionAdapter, EnvSpec]:
    """Return the converters of observations and actions of an environment with these spaces, and its spec.

    Raises:
        EnvError: if spaces are not supported.
    """
    observe, act = ObservationAdapter(observation, env, image_keys, vector_keys), ActionAdapter(action, env)
    native = spaces_to_json(observation, action, image_keys, vector_keys)
    return observe, act, EnvSpec(observe.specs, act.spec, native, (*observe.notes, *act.notes))


def spec_to_json(spec: EnvSpec) -> Mapping[str, Any]:
    """Return the spaces of an environment, `observation` and `action`, as values that JSON can hold.

    Without `spec.spaces` they are those of the agent: a Dict of Box spaces, and Discrete, MultiDiscrete or Box(-1, 1).
    """
    if spec.spaces is not None:
        return spec.spaces
    boxes: dict[str, Space] = {
        key: spaces.Box(0, 255, entry.shape, np.uint8) if entry.is_image else spaces.Box(-np.inf, np.inf, entry.shape)
        for key, entry in spec.observations.items()
    }
    sizes = spec.action.sizes
    action: Space = spaces.Discrete(sizes[0]) if len(sizes) == 1 else spaces.MultiDiscrete(list(sizes))
    if spec.action.kind == "continuous":
        action = spaces.Box(-1, 1, sizes)
    return spaces_to_json(spaces.Dict(boxes), action)


def spaces_to_json(
    observation: Space, action: Space, image_keys: Sequence[str] = (), vector_keys: Sequence[str] = ()
) -> dict[str, Any]:
    """Return both spaces of an environment as values that JSON can hold, and keys as `ObservationAdapter` takes them.

    Empty `image_keys` and `vector_keys` are left out.
    """
    keys = {"image_keys": list(image_keys), "vector_keys": list(vector_keys)}
    chosen = {name: value for name, value in keys.items() if value}
    return {"observation": space_to_json(observation), "action": space_to_json(action), **chosen}


def spec_from_json(data: Mapping[str, Any], env: str = "The agent") -> EnvSpec:
    """Return the spec of which `spec_to_json` returned this.

    Args:
        data: the spaces.
        env: name of the environment for messages.

    Raises:
        ValueError: if it is something else, or too large; so may TypeError, LookupError and OverflowError.
    """
    try:
        observe, act = adapters_from_json(data, env)
    except EnvError as error:
        raise ValueError(str(error)) from None
    return EnvSpec(observe.specs, act.spec, data)


def adapters_from_json(data: Mapping[str, Any], env: str) -> tuple[ObservationAdapter, ActionAdapter]:
    """Return the converters of observations and actions, given the result of `spec_to_json`.

    Raises:
        EnvError: if spaces are not supported.
        ValueError: as `space_from_json`.
    """
    observation, action = (space_from_json(data[name]) for name in ("observation", "action"))
    images, vectors = ([str(key) for key in data.get(name, ())] for name in ("image_keys", "vector_keys"))
    return ObservationAdapter(observation, env, images, vectors), ActionAdapter(action, env)


def space_to_json(space: Space) -> dict[str, Any]:
    """Return a space as values that JSON can hold; one that the agent cannot read is an empty Dict in its place."""
    match space:
        case spaces.Dict():  # pairs, since their order counts
            return {"kind": "Dict", "spaces": [[key, space_to_json(child)] for key, child in space.spaces.items()]}
        case spaces.Tuple():
            return {"kind": "Tuple", "spaces": [space_to_json(child) for child in space.spaces]}
    for kind, names in _ATTRIBUTES.items():
        if isinstance(space, kind) and is_read(space):
            return {"kind": kind.__name__, **{name: _to_json(getattr(space, name)) for name in names}}
    return space_to_json(spaces.Dict())


def space_from_json(data: Any, depth: int = 0) -> Space:
    """Return the space of which `space_to_json` returned this.

    Raises:
        ValueError: if it is something else, or too large; so may TypeError, LookupError and OverflowError.
    """
    try:
        match data["kind"]:
            case "Dict" if depth < _MAX_DEPTH:
                children: dict[Any, Space] = {
                    key if isinstance(key, int) else str(key): space_from_json(child, depth + 1)
                    for key, child in data["spaces"]
                }
                return spaces.Dict(list(children.items()))
            case "Tuple" if depth < _MAX_DEPTH:
                return spaces.Tuple([space_from_json(child, depth + 1) for child in data["spaces"]])
            case "Discrete":
                return spaces.Discrete(_whole(data["n"], 1), start=_whole(data["start"]))
            case "MultiDiscrete":
                nvec, start = (_array(data, name, "iu") for name in ("nvec", "start"))
                return spaces.MultiDiscrete(nvec, nvec.dtype.type, start=start)
            case "MultiBinary":
                shape = _shape(data)
                return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
            case "Box":
                low, high = (_array(data, name, "fiub") for name in ("low", "high"))
                return spaces.Box(low, high, low.shape, low.dtype.type)
            case kind:
                raise ValueError(f"there is no space {str(kind)[:20]}")
    except AssertionError as error:  # Gymnasium's answer to wrong arguments
        raise ValueError(str(error)) from None


def _to_json(value: Any) -> Any:
    """Return an array as one number where all are equal, else as a flat list; infinities as text."""
    if isinstance(value, np.ndarray):
        is_constant = (value == value.flat[0]).all()
        entries = [x if np.isfinite(x) else str(x) for x in value.flat[: 1 if is_constant else None].tolist()]
        return entries[0] if is_constant else entries
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple) else str(value)


def _array(data: Any, name: str, kinds: str) -> Array:
    shape, dtype, values = _shape(data), np.dtype(str(data["dtype"])), data[name]
    if dtype.kind not in kinds:
        raise ValueError(f"no space has the dtype {dtype}")
    if isinstance(values, list):
        return np.array([float(x) if isinstance(x, str) else x for x in values], dtype).reshape(shape)
    return np.full(shape, float(values) if isinstance(values, str) else values, dtype)


def _shape(data: Any) -> tuple[int, ...]:
    shape = tuple(_whole(length, 1) for length in data["shape"])
    if prod(shape) > _MAX_SIZE:
        raise ValueError(f"a space of shape {shape} is too large")
    return shape


def _whole(number: Any, least: int = -(1 << 62)) -> int:
    if type(number) is not int or not least <= number < 1 << 62:
        raise ValueError(f"{str(number)[:20]} is no valid size of a space")
    return number
