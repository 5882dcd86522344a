"""States of environments in a checkpoint: JSON, and the bytes of their arrays as tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.config import EnvConfig, flatten
from reverie.envs import EnvState
from reverie.errors import CheckpointError
from reverie.runs.checkpoints import state_from_json, state_to_json

MISSING = "the checkpoint does not have its state"
_SAME_GAME = {"num_envs", "parallel", "step_timeout", "max_restarts_per_hour"}
"""Settings that do not change what happens in an environment."""


def pack(states: Sequence[EnvState]) -> tuple[list[Any], dict[str, Tensor]]:
    """Return states in JSON's types, and the bytes of their arrays; raise CheckpointError for Python objects."""
    entries, tensors = [], {}
    for index, state in enumerate(states):
        for name, array in (state.own or {}).items():
            if array.dtype.hasobject:
                raise CheckpointError(f"An environment's save_state returned '{name}' with Python objects in it.")
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            tensors[f"{index}/{name}"] = torch.from_numpy(flat.copy())
        kinds = {name: {"dtype": a.dtype.str, "shape": list(a.shape)} for name, a in (state.own or {}).items()}
        own = None if state.own is None else kinds
        entries.append({**asdict(replace(state, own=None)), "random": state_to_json(state.random), "own": own})
    return entries, tensors


def unpack(entries: Sequence[Any], tensors: Mapping[str, Tensor]) -> list[EnvState]:
    """Return the states that `pack` was given."""
    states = []
    for index, entry in enumerate(entries):
        own = entry["own"] and {
            name: tensors[f"{index}/{name}"].numpy().view(np.dtype(kind["dtype"])).reshape(kind["shape"])
            for name, kind in entry["own"].items()
        }
        states.append(EnvState(**{**entry, "random": state_from_json(entry["random"]), "own": own}))
    return states


def mismatch(entries: Sequence[Any], saved: Mapping[str, Any], config: EnvConfig) -> str:
    """Return why packed states with saved settings do not fit the environments of now; empty if they do."""
    if not entries:
        return MISSING
    if len(entries) != config.num_envs:
        return f"env.num_envs was {len(entries)}"
    for name, value in flatten(config).items():
        then, now = (list(each) if isinstance(each, tuple) else each for each in (saved.get(name), value))
        if name not in _SAME_GAME and then != now:
            return f"env.{name} was {then}"
    return ""


def describe(problems: Sequence[str]) -> list[str]:
    """Return a message for each reason why environments could not be restored, with their number."""
    messages = []
    for reason in dict.fromkeys(problem for problem in problems if problem):
        count = problems.count(reason)
        which = "The environment" if len(problems) == 1 else f"{count} of {len(problems)} environments"
        messages.append(
            f"{which} could not be restored ({reason}). The running episode was truncated, and a new one begins. "
            "Nothing learned is lost, but the run will not equal one without the interruption bit for bit."
        )
    return messages
