"""Replay rows with distinct numbers."""

import numpy as np

from reverie.specs import STEP_KEYS, ArraySpec, Step

SPECS = {"vector": ArraySpec((1,), "float32"), **STEP_KEYS}
EPISODE = 7
"""Rows of an episode, its reset included."""


def row(number: int, num_envs: int = 1, length: int = EPISODE) -> Step:
    """Return row `number` of episodes of `length` rows; environment `e` holds `number + 1000 e`."""
    step = {key: np.zeros((num_envs, *spec.shape), spec.dtype) for key, spec in SPECS.items()}
    step["vector"][:, 0] = number + 1000 * np.arange(num_envs)
    step["is_first"][:] = number % length == 0
    step["is_last"][:] = number % length == length - 1
    return step
