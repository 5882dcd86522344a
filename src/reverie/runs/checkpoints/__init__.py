"""Checkpoints: folders of safetensors and JSON, whole or absent, never pickled."""

from reverie.runs.checkpoints.format import (
    MANIFEST,
    Snapshot,
    damage_of,
    is_checkpoint,
    is_sound,
    read_checkpoint,
    read_state,
    write_checkpoint,
)
from reverie.runs.checkpoints.generators import (
    numpy_state,
    restore_numpy,
    restore_torch,
    state_from_json,
    state_to_json,
    torch_state,
)
from reverie.runs.checkpoints.keeping import Checkpoints
from reverie.runs.checkpoints.understanding import understood

__all__ = [
    "MANIFEST",
    "Checkpoints",
    "Snapshot",
    "damage_of",
    "is_checkpoint",
    "is_sound",
    "numpy_state",
    "read_checkpoint",
    "read_state",
    "restore_numpy",
    "restore_torch",
    "state_from_json",
    "state_to_json",
    "torch_state",
    "understood",
    "write_checkpoint",
]
