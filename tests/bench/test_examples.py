"""Made-up steps fit the environment that they stand for."""

import numpy as np
import pytest

from reverie.bench.examples import example_env, example_spec, random_batch
from reverie.config import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_random_batches_fit_the_environment(name: str) -> None:
    spec = example_spec(name)
    batch = random_batch(spec, 6, 3)
    assert set(batch) == set(spec.step)
    for key, entry in spec.step.items():
        assert batch[key].shape == (6, 3, *entry.shape)
        assert batch[key].dtype == entry.dtype
    if spec.action.kind == "discrete":
        assert np.array_equal(np.sort(batch["action"], -1)[..., -1], np.ones((6, 3)))
        assert np.array_equal(batch["action"].sum(-1), np.ones((6, 3)))
    else:
        assert np.abs(batch["action"]).max() <= 1
    assert batch["is_first"].sum() == 3


@pytest.mark.parametrize(
    ("name", "env"),
    [("atari", "ALE/Boxing-v5"), ("vector", "CartPole-v1"), ("dmc_proprio", "Pendulum-v1"), ("demo", "ALE/Boxing-v5")],
)
def test_an_environment_for_the_preset(name: str, env: str) -> None:
    assert example_env(preset(name), name) == env
    assert example_env(preset(name).for_env("Acrobot-v1"), name) == "Acrobot-v1"
