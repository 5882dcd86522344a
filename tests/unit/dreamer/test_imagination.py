"""Imagined rollouts: their weights, and where gradients stop."""

import pytest
import torch

from reverie.dreamer import Dreamer, State
from reverie.dreamer.imagination import ImaginationNoise, Trajectory, imagine
from reverie.specs import ActionSpec, EnvSpec
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, DISCRETE, MULTI_DISCRETE, tiny

ROLLOUTS, HORIZON = 6, 4
TERMINAL = torch.tensor([True, False, False, True, False, False])


def make(spec: ActionSpec = DISCRETE, **settings: object) -> Dreamer:
    return Dreamer(tiny(**settings), EnvSpec(ATARI_IMAGE, spec), seed=2)


def start_of(agent: Dreamer) -> State:
    generator = torch.Generator().manual_seed(0)
    state = agent.world_model.rssm.initial((ROLLOUTS,))
    return state.map(lambda part: torch.randn(part.shape, generator=generator))


def rollout(agent: Dreamer, seed: int | None = 0) -> Trajectory:
    model, actor = agent.world_model, agent.actor_critic.actor
    noise = None
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        shape = (HORIZON, ROLLOUTS)
        noise = ImaginationNoise(model.rssm.latents.draw_noise(shape, generator), actor.draw_noise(shape, generator))
    return imagine(model, actor, start_of(agent), TERMINAL, HORIZON, noise)


@pytest.mark.parametrize("spec", [DISCRETE, MULTI_DISCRETE, CONTINUOUS])
def test_imagine_has_the_start_state_and_one_entry_a_step(spec: ActionSpec) -> None:
    agent = make(spec)
    found = rollout(agent)
    assert found.feat.shape == (HORIZON + 1, ROLLOUTS, agent.world_model.rssm.feat_size)
    assert torch.equal(found.feat[0], start_of(agent).feat)
    assert found.action.shape == (HORIZON + 1, ROLLOUTS, spec.size) and not found.action[0].any()


@pytest.mark.parametrize("predict_discount", [True, False])
def test_imagine_discount_of_the_start_is_that_of_the_real_state(predict_discount: bool) -> None:
    """Gamma, or 0 where it ended its episode; gamma everywhere without a discount head. Weights are products."""
    agent = make(world_model__predict_discount=predict_discount, world_model__discount=0.9)
    found = rollout(agent)
    expected = torch.full((ROLLOUTS,), 0.9)
    if predict_discount:
        expected[TERMINAL] = 0
        torch.testing.assert_close(found.discount[1:], agent.world_model.discount(found.feat[1:]))
    else:
        assert (found.discount == 0.9).all()
    torch.testing.assert_close(found.discount[0], expected)
    assert (found.weight[0] == 1).all() and not found.weight.requires_grad
    for t in range(HORIZON):
        torch.testing.assert_close(found.weight[t + 1], found.weight[t] * found.discount[t])


def test_imagine_reward_is_the_prediction_of_each_state() -> None:
    agent = make()
    found = rollout(agent)
    torch.testing.assert_close(found.reward, agent.world_model.reward(found.feat))


@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS])
def test_imagine_same_noise_gives_the_same_rollout_and_none_takes_modes(spec: ActionSpec) -> None:
    agent = make(spec)
    first, same, other = (rollout(agent, seed).feat for seed in (0, 0, 1))
    assert torch.equal(first, same) and not torch.equal(first, other)
    found = rollout(agent, None)
    for t in range(HORIZON):
        action = agent.actor_critic.actor(found.feat[t]).mode()
        torch.testing.assert_close(found.action[t + 1], action, rtol=1e-5, atol=1e-5)


def test_imagine_actor_reads_states_without_gradient() -> None:
    """Actions depend on the actor's weights alone; rewards on the dynamics that the actions led through."""
    agent = make(CONTINUOUS)
    found = rollout(agent)
    to_actor = torch.autograd.grad(found.action[1].sum(), agent.actor_critic.actor.head.weight, retain_graph=True)[0]
    assert to_actor.any()
    to_dynamics = torch.autograd.grad(
        found.action[HORIZON].sum(), list(agent.world_model.rssm.parameters()), retain_graph=True, allow_unused=True
    )
    assert all(gradient is None for gradient in to_dynamics)
    to_dynamics = torch.autograd.grad(
        found.reward[HORIZON].sum(), agent.world_model.rssm.cell.linear.weight, allow_unused=True
    )[0]
    assert to_dynamics.any()
