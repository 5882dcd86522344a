"""Checkpoints: folders of safetensors and JSON, whole or absent, never pickled."""

from reverie.runs.checkpoints.format import (
    Shapes,
    Snapshot,
    read_checkpoint,
    read_state,
    validate_contents,
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
from reverie.runs.checkpoints.manifest import (
    MANIFEST,
    is_checkpoint,
    is_valid,
    read_manifest,
    step_and_copy,
    verify_checkpoint,
)

__all__ = [
    "MANIFEST",
    "Checkpoints",
    "Shapes",
    "Snapshot",
    "is_checkpoint",
    "is_valid",
    "numpy_state",
    "read_checkpoint",
    "read_manifest",
    "read_state",
    "restore_numpy",
    "restore_torch",
    "state_from_json",
    "state_to_json",
    "step_and_copy",
    "torch_state",
    "validate_contents",
    "verify_checkpoint",
    "write_checkpoint",
]
