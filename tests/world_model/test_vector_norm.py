"""Standardised vector observations: the statistics against the data itself, and their place in the agent."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reverie.agent import Dreamer
from reverie.specs import ArraySpec, EnvSpec
from reverie.world_model.observations import VectorNorm
from tests.helpers.agents import DICT, DISCRETE, random_steps, tiny

TWO_VECTORS = {"pole": ArraySpec((2,), "float32"), "cart": ArraySpec((1,), "float32")}
SIZES = torch.tensor([[1e-2, 3.0, 1e3]])
OFFSETS = torch.tensor([[5.0, -1.0, 1e3]])


def observations(count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    values = torch.randn((count, 3), generator=generator) * SIZES + OFFSETS
    return {"pole": values[:, :2], "cart": values[:, 2:]}


def test_statistics_are_those_of_all_batches_together() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [observations(20, generator) for _ in range(30)]
    norm = VectorNorm(TWO_VECTORS)
    for batch in batches:
        norm.update(batch)
    everything = torch.cat([torch.cat([batch["pole"], batch["cart"]], -1) for batch in batches])
    torch.testing.assert_close(norm.mean, everything.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.variance, everything.var(0, correction=0), rtol=1e-3, atol=1e-6)


def test_results_have_mean_zero_and_deviation_one() -> None:
    generator = torch.Generator().manual_seed(0)
    norm = VectorNorm(TWO_VECTORS)
    for _ in range(100):
        norm.update(observations(200, generator))
    result = norm(observations(20_000, generator))
    assert list(result) == ["pole", "cart"]
    together = torch.cat(list(result.values()), -1)
    assert together.mean(0).abs().max() < 0.05
    assert (together.std(0) - 1).abs().max() < 0.05


def test_late_changes_are_followed_and_extremes_are_limited() -> None:
    norm = VectorNorm({"x": ArraySpec((1,), "float32")})
    for _ in range(10):
        norm.update({"x": torch.zeros(8, 1)})
    far = {"x": torch.full((8, 1), 7.0)}
    assert norm(far)["x"].eq(VectorNorm.LIMIT).all()
    for _ in range(10 * VectorNorm.MEMORY):
        norm.update(far)
    assert norm.mean.item() == pytest.approx(7, rel=1e-3)
    assert norm(far)["x"].abs().max() < 0.1


def test_before_the_first_batch_observations_stay_as_they_are() -> None:
    batch = {"pole": torch.tensor([[0.5, -2.0]]), "cart": torch.tensor([[3.0]])}
    for key, value in VectorNorm(TWO_VECTORS)(batch).items():
        torch.testing.assert_close(value, batch[key])


def test_the_agent_learns_from_standardised_vectors_and_acts_on_them(tmp_path: Path) -> None:
    spec = EnvSpec(DICT, DISCRETE)
    agent = Dreamer(tiny(world_model__normalize_vectors=True), spec)
    steps = random_steps(spec, (10, 4))
    steps["speed"] = steps["speed"] * 100 + 50
    agent.train_step(steps)
    data = agent.world_model.preprocess(agent.to_tensors(steps))
    for key in ("position", "speed"):
        assert data[key].mean((0, 1)).abs().max() < 1e-5
        assert (data[key].std((0, 1), correction=0) - 1).abs().max() < 1e-3
    # What is saved acts the same: the statistics are part of it.
    agent.save(tmp_path / "agent")
    observation = {key: steps[key][0] for key in [*DICT, "is_first"]}
    first, _ = agent.act(observation, sample=False)
    again, _ = Dreamer.load(tmp_path / "agent").act(observation, sample=False)
    np.testing.assert_array_equal(first, again)


def test_off_by_default_nothing_is_kept() -> None:
    agent = Dreamer(tiny(), EnvSpec(DICT, DISCRETE))
    assert not [name for name in agent.state_dict() if "norm.mean" in name]
