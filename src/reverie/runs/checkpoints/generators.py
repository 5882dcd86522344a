"""State of random generators, as a checkpoint stores it."""

import numpy as np
import torch

from reverie.errors import CheckpointError
from reverie.runs.atomic_io import Json


def numpy_state(generator: np.random.Generator) -> Json:
    """Return the state of a numpy generator, without the children spawned so far, as JSON with large integers."""
    return state_to_json(dict(generator.bit_generator.state))


def restore_numpy(generator: np.random.Generator, state: Json) -> None:
    """Set a numpy generator to a result of `numpy_state`; raise CheckpointError for that of another kind."""
    try:
        generator.bit_generator.state = state_from_json(state)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        kind = type(generator.bit_generator).__name__
        raise CheckpointError(f"The checkpoint's random state does not fit numpy's {kind} generator.") from error


def restore_torch(generator: torch.Generator, state: torch.Tensor) -> bool:
    """Set the state of a torch generator; return False, without a change, for that of another kind of device."""
    state = state.cpu()
    if state.dtype != torch.uint8 or state.shape != generator.get_state().shape:
        return False
    generator.set_state(state)
    return True


def state_to_json(value: Json) -> Json:
    """Return the state of a numpy bit generator, which may contain arrays, as JSON."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, dict):
        return {key: state_to_json(entry) for key, entry in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def state_from_json(value: Json) -> Json:
    """Invert `state_to_json`."""
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array", "dtype"}:
        return np.array(value["array"], dtype=np.dtype(value["dtype"]))
    return {key: state_from_json(entry) for key, entry in value.items()}
