"""Checkpoints: folders of safetensors and JSON, whole or absent, never pickled."""

from reverie.runs.checkpoints.format import (
    MANIFEST,
    Snapshot,
    is_checkpoint,
    is_valid,
    read_checkpoint,
    read_state,
    validate_contents,
    verify_checkpoint,
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
from reverie.runs.checkpoints.manager import Checkpoints

__all__ = [
    "MANIFEST",
    "Checkpoints",
    "Snapshot",
    "is_checkpoint",
    "is_valid",
    "numpy_state",
    "read_checkpoint",
    "read_state",
    "restore_numpy",
    "restore_torch",
    "state_from_json",
    "state_to_json",
    "torch_state",
    "validate_contents",
    "verify_checkpoint",
    "write_checkpoint",
]
