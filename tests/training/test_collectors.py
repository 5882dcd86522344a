"""Random actions, and the episodes that a collector reports."""

import numpy as np
import pytest

from reverie.specs import ActionSpec
from reverie.training.collectors import RandomPolicy


@pytest.mark.parametrize(
    "action", [ActionSpec("discrete", (18,)), ActionSpec("discrete", (2, 5)), ActionSpec("continuous", (3,))]
)
def test_random_policy_draws_what_numpy_draws(action: ActionSpec) -> None:
    rng, expected_rng = np.random.default_rng(5), np.random.default_rng(5)
    policy = RandomPolicy(action, rng)
    for _ in range(9):
        if action.kind == "continuous":
            expected = expected_rng.uniform(-1, 1, (4, 3)).astype(np.float32)
        else:
            expected = np.concatenate([np.eye(size)[expected_rng.integers(size, size=4)] for size in action.sizes], -1)
        drawn = policy({"is_first": np.zeros(4, bool)})
        np.testing.assert_array_equal(drawn, expected)
        assert drawn.dtype == np.float32
    assert rng.bit_generator.state == expected_rng.bit_generator.state
