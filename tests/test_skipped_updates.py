"""An update that is not finite changes nothing, and the next one is as if it had not been."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reverie.agent import SKIPPED, Dreamer
from reverie.behavior.behavior import Behavior, BehaviorLoss
from reverie.behavior.networks import RewardNorm
from reverie.config import OptimizerConfig, RewardNormConfig
from reverie.networks.optimizer import Optimizer
from reverie.specs import ActionSpec, ArraySpec, EnvSpec
from reverie.world_model.observations import VectorNorm
from tests.helpers.agents import random_steps, tiny

OBSERVATIONS = {"image": ArraySpec((64, 64, 1), "uint8"), "speed": ArraySpec((2,), "float32")}
SPEC = EnvSpec(OBSERVATIONS, ActionSpec("discrete", (4,)))


def everything(agent: Dreamer) -> dict[str, Tensor]:
    """Weights, statistics, moments and the carried state, but for the target critic."""
    snapshot = agent.snapshot()
    tensors = {f"{group}/{name}": value for group, part in snapshot.tensors.items() for name, value in part.items()}
    kept = ("weights/", "carry/", "model_optimizer/", "actor_optimizer/", "critic_optimizer/")
    return {name: value.clone() for name, value in tensors.items() if name.startswith(kept) and "target_" not in name}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Parts of which anything has changed."""
    names = [name for name, value in before.items() if not torch.equal(value, after[name])]
    groups = {
        "model": ("weights/world_model.", "model_optimizer/", "carry/"),
        "actor": ("weights/behavior.actor.", "actor_optimizer/"),
        "critic": ("weights/behavior.critic.", "critic_optimizer/"),
        "reward norm": ("weights/behavior.reward_norm.",),
    }
    return {part for part, prefixes in groups.items() if any(name.startswith(prefixes) for name in names)}


def spoil(monkeypatch: pytest.MonkeyPatch, *losses: str) -> None:
    """Make these losses of the behavior infinite."""
    real = Behavior.loss

    def loss(*args: Any, **kwargs: Any) -> BehaviorLoss:
        found = real(*args, **kwargs)
        return found._replace(**{name: getattr(found, name) * torch.inf for name in losses})

    monkeypatch.setattr(Behavior, "loss", loss)


@pytest.mark.parametrize("key", ["speed", "reward"])
@pytest.mark.parametrize("latents", ["categorical", "gaussian"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_batch_that_spoils_the_model_changes_nothing(latents: str, key: str, value: float) -> None:
    identity = {"world_model__reward_transform": "identity"}
    config = tiny(behavior__reward_norm__momentum=0.9, world_model__rssm__latents=latents, **identity)
    agent = Dreamer(config, SPEC, seed=1)
    agent.train_step(random_steps(SPEC, (4, 3)))
    before = everything(agent)
    steps = random_steps(SPEC, (4, 3), seed=1)
    steps[key][2, 0] = value
    metrics = agent.train_step(steps)
    assert metrics[SKIPPED] == 1 and agent.updates == 2
    assert not changed(before, everything(agent))
    metrics = agent.train_step(random_steps(SPEC, (4, 3), seed=2))
    assert metrics[SKIPPED] == 0 and all(bool(value.isfinite()) for value in metrics.values())
    assert changed(before, everything(agent)) == {"model", "actor", "critic", "reward norm"}


@pytest.mark.parametrize(("loss", "others"), [("actor", {"model", "critic"}), ("critic", {"model", "actor"})])
def test_what_is_finite_learns_all_the_same(monkeypatch: pytest.MonkeyPatch, loss: str, others: set[str]) -> None:
    agent = Dreamer(tiny(), SPEC, seed=1)
    agent.train_step(random_steps(SPEC, (4, 2)))
    before = everything(agent)
    spoil(monkeypatch, loss)
    assert agent.train_step(random_steps(SPEC, (4, 2)))[SKIPPED] == 1
    assert changed(before, everything(agent)) == others


def test_world_model_alone() -> None:
    agent = Dreamer(tiny(), SPEC, seed=1)
    steps = random_steps(SPEC, (4, 2))
    assert agent.train_world_model(steps)[SKIPPED] == 0
    before = everything(agent)
    steps["reward"][1, 0] = float("inf")
    steps["speed"][0, 0, 0] = float("inf")
    assert agent.train_world_model(steps)[SKIPPED] == 1
    assert not changed(before, everything(agent))


@pytest.mark.parametrize("decay", ["all", "kernels"])
@pytest.mark.parametrize("clip", [0.0, 100.0])
def test_a_skipped_step_is_as_if_it_had_not_been(clip: float, decay: Any) -> None:
    """Also where the loss is finite and only its gradient is not: the root at 0."""
    config = OptimizerConfig(lr=0.1, weight_decay=0.1, max_grad_norm=clip, weight_decay_on=decay)
    layers = [nn.Linear(3, 2) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    one, other = (Optimizer([layer], config) for layer in layers)
    for step in range(4):
        for layer, optimizer in zip(layers, (one, other), strict=True):
            norm, skipped = optimizer.step((layer(torch.ones(3)) - step).square().sum(), 0.1)
            assert norm.isfinite() and not skipped
        assert all(torch.equal(a, b) for a, b in zip(*(layer.parameters() for layer in layers), strict=True))
        weight, bias = layers[0].parameters()
        root = (weight - weight.detach()).sqrt().sum() + (0 * bias).sum()
        nan, inf = layers[0](torch.full((3,), torch.nan)), layers[0](torch.ones(3)) * torch.inf
        for broken in (root, nan.square().sum(), inf.square().sum()):
            assert one.step(broken, 0.1).skipped == 1
    state = one.state_dict()
    assert all(torch.equal(state[name], value) for name, value in other.state_dict().items())


def test_running_statistics_stay_finite() -> None:
    norm = RewardNorm(RewardNormConfig(momentum=0.9))
    norm(torch.tensor([2.0, 4.0]))
    magnitude = norm.magnitude.clone()
    norm(torch.tensor([2.0, torch.nan]))
    norm(torch.tensor([2.0, torch.inf]))
    assert torch.equal(norm.magnitude, magnitude) and magnitude == pytest.approx(0.9 + 0.1 * 3)
    vectors = VectorNorm(SPEC.observations)
    vectors.update({"speed": torch.tensor([[1.0, 5.0], [3.0, 7.0]])})
    vectors.update({"speed": torch.tensor([[torch.nan, 6.0], [1.0, 6.0]])})
    assert vectors.mean.tolist() == [2.0, 6.0]
    assert vectors.variance.tolist() == [1.0, pytest.approx(0.5)]  # the second entry is finite, and learns
