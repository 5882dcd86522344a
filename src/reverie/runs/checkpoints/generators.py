"""State of random generators, in the form that a checkpoint holds."""

import numpy as np
import torch

from reverie.errors import CheckpointError
from reverie.runs.atomic_io import Json


def numpy_state(generator: np.random.Generator) -> Json:
    """State of a numpy generator as JSON (with integers of any size). Children spawned so far are not counted."""
    return state_to_json(dict(generator.bit_generator.state))


def restore_numpy(generator: np.random.Generator, state: Json) -> None:
    """Set a numpy generator, in place, to what `numpy_state` gave for one of the same kind.

    Raises:
        CheckpointError: if the state is not one of this kind of generator.
    """
    try:
        generator.bit_generator.state = state_from_json(state)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        kind = type(generator.bit_generator).__name__
        raise CheckpointError(f"The checkpoint's random state does not fit numpy's {kind} generator.") from error


def torch_state(generator: torch.Generator) -> torch.Tensor:
    """State of a torch generator: uint8 [n] on the CPU."""
    return generator.get_state()


def restore_torch(generator: torch.Generator, state: torch.Tensor) -> bool:
    """Set a torch generator to what `torch_state` gave.

    Returns:
        False, and nothing is changed, if the state is of another kind of device: the run goes on with other random
        numbers then.
    """
    state = state.cpu()
    if state.dtype != torch.uint8 or state.shape != generator.get_state().shape:
        return False
    generator.set_state(state)
    return True


def state_to_json(value: Json) -> Json:
    """The state of a numpy bit generator, which may contain arrays, as JSON."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, dict):
        return {key: state_to_json(entry) for key, entry in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def state_from_json(value: Json) -> Json:
    """Inverse of `state_to_json`."""
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array", "dtype"}:
        return np.array(value["array"], dtype=np.dtype(value["dtype"]))
    return {key: state_from_json(entry) for key, entry in value.items()}
