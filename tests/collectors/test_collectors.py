"""Random actions, and the episodes that a collector reports."""

import json

import numpy as np
import pytest

from reverie.collectors.random_policy import RandomPolicy
from reverie.specs import ActionSpec


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


def test_random_policy_holds_actions_for_zeta_distributed_lengths() -> None:
    """Runs of one action in 64 environments have lengths with the probabilities of n^-2."""
    max_hold, steps = 5, 4_000
    policy = RandomPolicy(ActionSpec("continuous", (1,)), np.random.default_rng(0), max_hold)
    actions = np.stack([policy({"is_first": np.zeros(64, bool)})[:, 0] for _ in range(steps)], 1)
    counts = np.zeros(max_hold + 1)
    for row in actions:
        changes = np.flatnonzero(np.diff(row))
        lengths, numbers = np.unique(np.diff(changes), return_counts=True)
        counts[lengths] += numbers
    expected = np.arange(1, max_hold + 1) ** -2.0
    np.testing.assert_allclose(counts[1:] / counts.sum(), expected / expected.sum(), atol=0.005)


def test_random_policy_restored_continues_its_actions() -> None:
    step = {"is_first": np.zeros(3, bool)}
    policies = [RandomPolicy(ActionSpec("discrete", (7,)), np.random.default_rng(seed), 20) for seed in (0, 1)]
    for _ in range(10):
        policies[0](step)
    policies[1].restore(json.loads(json.dumps(policies[0].state())))
    for _ in range(30):
        np.testing.assert_array_equal(policies[0](step), policies[1](step))
