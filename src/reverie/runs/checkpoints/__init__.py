"""Checkpoints: folders of safetensors and JSON, whole or absent, never pickled.

`format.py` writes and reads one, `manager.py` keeps those of a run, `generators.py` stores random generators.
"""

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
)
from reverie.runs.checkpoints.manager import Checkpoints

__all__ = [
    "Checkpoints",
    "Shapes",
    "Snapshot",
    "numpy_state",
    "read_checkpoint",
    "read_state",
    "restore_numpy",
    "restore_torch",
    "state_from_json",
    "state_to_json",
    "validate_contents",
    "write_checkpoint",
]
