"""Small agents: spaces, the debug preset in tiny sizes, and random steps."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.config import Config, preset
from reverie.specs import ActionSpec, ArraySpec, EnvSpec

Arrays = dict[str, np.ndarray[Any, Any]]

ATARI_IMAGE = {"image": ArraySpec((64, 64, 1), "uint8")}
DICT = {
    "image": ArraySpec((64, 64, 1), "uint8"),
    "position": ArraySpec((3,), "float32"),
    "wrist": ArraySpec((64, 64, 3), "uint8"),
    "speed": ArraySpec((2,), "float32"),
}
DISCRETE = ActionSpec("discrete", (4,))
MULTI_DISCRETE = ActionSpec("discrete", (3, 2))
CONTINUOUS = ActionSpec("continuous", (2,))
TINY = {"world_model.encoder.cnn_depth": 2, "world_model.decoder.cnn_depth": 2, "training.device": "cpu"}


def tiny(**settings: Any) -> Config:
    """Return the debug preset in smaller sizes; settings by path with `__` for the dots."""
    return preset("debug").override(**{**TINY, **{key.replace("__", "."): value for key, value in settings.items()}})


def random_steps(spec: EnvSpec, shape: tuple[int, ...], seed: int = 0) -> Arrays:
    """Return random steps of leading shape `shape`; the first index of the first axis starts episodes."""
    generator = np.random.default_rng(seed)
    steps: Arrays = {}
    for key, entry in spec.observations.items():
        size = (*shape, *entry.shape)
        image = generator.integers(0, 256, size, np.uint8)
        steps[key] = image if entry.is_image else generator.normal(size=size).astype(np.float32)
    if spec.action.kind == "discrete":
        choices = [np.eye(size)[generator.integers(0, size, shape)] for size in spec.action.sizes]
        steps["action"] = np.concatenate(choices, -1).astype(np.float32)
    else:
        steps["action"] = generator.uniform(-1, 1, (*shape, spec.action.size)).astype(np.float32)
    steps["reward"] = generator.normal(size=shape).astype(np.float32)
    steps["is_terminal"] = generator.random(shape) < 0.2
    steps["is_last"] = steps["is_terminal"].copy()
    steps["is_first"] = np.zeros(shape, bool)
    steps["is_first"][0] = True
    return steps


def tensors(steps: Arrays) -> dict[str, Tensor]:
    """Return the steps as tensors that share their memory."""
    return {key: torch.from_numpy(array) for key, array in steps.items()}
