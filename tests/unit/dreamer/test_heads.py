"""Actor, critic and the normalisation of rewards."""

import pytest
import torch

from reverie.config import ActorConfig, CriticConfig, RewardNormConfig
from reverie.dreamer import Dreamer
from reverie.dreamer.distributions import OneHot, TanhNormal, TruncatedNormal
from reverie.dreamer.heads import Actor, Critic, RewardNorm
from reverie.specs import EnvSpec
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, DISCRETE, MULTI_DISCRETE, tiny


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("spec", "distribution", "kind", "noise"),
    [
        (DISCRETE, "auto", OneHot, (5, 1)),
        (MULTI_DISCRETE, "auto", OneHot, (5, 2)),
        (CONTINUOUS, "auto", TruncatedNormal, (5, 2)),
        (CONTINUOUS, "tanh_normal", TanhNormal, (5, 2)),
    ],
)
def test_actor_of_each_action_kind_has_its_distribution(
    spec: object, distribution: str, kind: type, noise: tuple[int, ...]
) -> None:
    settings = {} if distribution == "auto" else {"distribution": distribution}
    actor = Actor(6, spec, ActorConfig(layers=1, units=4, **settings))
    dist = actor(draw(5, 6))
    assert isinstance(dist, kind)
    drawn = actor.draw_noise((5,), torch.Generator().manual_seed(0))
    assert drawn.shape == noise
    action = dist.sample(drawn)
    assert action.shape == (5, spec.size) and (action.abs() <= 1 + 1e-6).all()


@pytest.mark.parametrize("init_std", [0.5, 2.0])
def test_actor_init_std_is_the_deviation_of_an_output_of_zero(init_std: float) -> None:
    config = ActorConfig(layers=0, distribution="tanh_normal", init_std=init_std, min_std=0.1)
    actor = Actor(3, CONTINUOUS, config)
    torch.nn.init.zeros_(actor.std_head.bias)
    dist = actor(torch.zeros(1, 3))
    torch.testing.assert_close(dist.scale, torch.full((1, 2), init_std + 0.1))


def test_critic_has_one_value_for_each_state() -> None:
    critic = Critic(6, CriticConfig(layers=1, units=4))
    feat = draw(2, 5, 6)
    assert critic(feat).shape == (2, 5)
    torch.testing.assert_close(critic(feat), critic.mlp(feat)[..., 0])


@pytest.mark.parametrize("head", ["critic", "target_critic", "reward_head", "discount_head"])
def test_output_layers_of_heads_under_autocast_keep_float32_values(head: str) -> None:
    """A value of 64 in bfloat16 has steps of 0.5."""
    agent = Dreamer(tiny(), EnvSpec(ATARI_IMAGE, DISCRETE), seed=3)
    part = getattr(agent.actor_critic if "critic" in head else agent.world_model, head)
    mlp = part.mlp if "critic" in head else part
    torch.nn.init.constant_(mlp[-1].bias, 64.0)
    feat = draw(50, mlp[0].linear.in_features)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = mlp(feat)
        hidden = feat
        for layer in list(mlp)[:-1]:
            hidden = layer(hidden)
    expected = hidden.double() @ mlp[-1].weight.double().T + 64
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-5)


# --- reward normalisation --------------------------------------------------------------------------------------------


def test_reward_norm_update_is_a_running_mean_of_magnitudes() -> None:
    norm = RewardNorm(RewardNormConfig(momentum=0.9, scale=2.0, eps=0.5))
    norm.update(torch.tensor([2.0, -4.0]))
    norm.update(torch.tensor([0.0, 1.0]))
    magnitude = 0.9 * (0.9 * 1 + 0.1 * 3) + 0.1 * 0.5
    assert norm.magnitude.item() == pytest.approx(magnitude)
    assert norm(torch.tensor([3.0])).item() == pytest.approx(2.0 * 3.0 / (magnitude + 0.5))


def test_reward_norm_forward_changes_no_statistic() -> None:
    norm = RewardNorm(RewardNormConfig(momentum=0.9))
    norm.update(torch.tensor([5.0]))
    before = norm.magnitude.clone()
    first, again = norm(torch.tensor([100.0])), norm(torch.tensor([100.0]))
    assert torch.equal(norm.magnitude, before) and torch.equal(first, again)


def test_reward_norm_momentum_one_keeps_rewards() -> None:
    norm = RewardNorm(RewardNormConfig(momentum=1.0, eps=1e-12))
    norm.update(torch.tensor([5.0]))
    assert norm(torch.tensor([3.0])).item() == 3.0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_reward_norm_non_finite_rewards_or_invalid_update_leave_the_magnitude(bad: float) -> None:
    norm = RewardNorm(RewardNormConfig(momentum=0.9))
    norm.update(torch.tensor([2.0, bad]))
    norm.update(torch.tensor([2.0]), torch.tensor(False))
    assert norm.magnitude == 1.0
    norm.update(torch.tensor([2.0]), torch.tensor(True))
    assert norm.magnitude == pytest.approx(1.1)
