"""The policy's entropy inside the return (the article's "long-term entropy"), against returns written out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie.agent import Dreamer
from reverie.behavior import Trajectory
from reverie.behavior.losses import add_entropy
from reverie.specs import ActionSpec, EnvSpec
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, DISCRETE, random_steps, tiny
from tests.helpers.returns import brute_force_return

WEIGHT = 0.5


def agent(spec: ActionSpec = DISCRETE, **settings: object) -> Dreamer:
    actor = {"behavior__actor__entropy": WEIGHT, "behavior__long_term_entropy": True}
    return Dreamer(tiny(**{**actor, **settings}), EnvSpec(ATARI_IMAGE, spec), seed=2)


def losses(agent: Dreamer, terminal: Tensor | None = None) -> tuple[Trajectory, Tensor, Tensor]:
    """Trajectory, target and actor loss from six posterior states, with modes in place of samples."""
    model = agent.world_model
    steps = random_steps(agent.spec, (3, 2))
    batch = model.preprocess({key: torch.from_numpy(value) for key, value in steps.items()})
    start = model.loss(batch, None, None).posterior.map(lambda part: part.detach().flatten(0, 1))
    result = agent.behavior.loss(model, start, batch["is_terminal"].flatten() if terminal is None else terminal, None)
    return result.trajectory, result.target, result.actor


def entropies(agent: Dreamer, trajectory: Trajectory) -> Tensor:
    """H(pi) in every state, from the actor's logits by the definition."""
    feat = trajectory.feat if isinstance(trajectory.feat, Tensor) else trajectory.feat.dense()
    actor = agent.behavior.actor
    p = actor.head(actor.body(feat)).softmax(-1).detach().numpy()
    return torch.from_numpy(-(p * np.log(p)).sum(-1))


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_the_return_counts_the_entropy_of_its_states(gradient: str) -> None:
    one = agent(behavior__actor__gradient=gradient)
    trajectory, target, _ = losses(one)
    plain, _, _ = losses(agent(behavior__actor__gradient=gradient, behavior__long_term_entropy=False))
    continues = (trajectory.discount[:-1] / one.config.world_model.discount).clamp(max=1)
    reward = plain.reward[:-1] + WEIGHT * continues * entropies(one, trajectory)[:-1]
    torch.testing.assert_close(trajectory.reward[:-1], reward)
    torch.testing.assert_close(trajectory.reward[-1], plain.reward[-1])
    value = one.behavior.target_critic(trajectory.feat)
    expected = brute_force_return(reward, value[:-1], trajectory.discount[:-1], value[-1], 0.95)
    torch.testing.assert_close(target, expected)


def test_the_gradient_of_the_entropy_reaches_states_and_actor_where_returns_are_differentiated() -> None:
    actor = agent().behavior.actor.double()
    feat = torch.randn((4, 2, actor.body[0].linear.in_features), dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros((4, 2), dtype=torch.float64)
    trajectory = Trajectory(feat, zeros[..., None], zeros, zeros, zeros)
    value = add_entropy(zeros, actor, trajectory._replace(discount=zeros + 0.9), WEIGHT, 0.9).sum()
    to_states, to_actor = torch.autograd.grad(value, (feat, actor.head.weight))
    assert to_states[:-1].abs().amax(-1).all() and not to_states[-1].any()
    assert to_actor.any()


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_long_term_entropy_of_terminal_states_is_not_paid(gradient: str) -> None:
    """The policy does not act where the episode has ended: rewards there are those of the agent without the entropy."""
    one = agent(behavior__actor__gradient=gradient)
    plain = agent(behavior__actor__gradient=gradient, behavior__long_term_entropy=False)
    terminal = torch.tensor([True, False, True, False, True, False])
    found, expected = losses(one, terminal=terminal)[0].reward, losses(plain, terminal=terminal)[0].reward
    assert torch.equal(found[0, terminal], expected[0, terminal])
    assert (found[0, ~terminal] > expected[0, ~terminal]).all()


def test_reinforce_sees_the_entropy_as_a_number() -> None:
    """No gradient but that of log pi and of the direct entropy bonus."""
    _, target, _ = losses(agent(behavior__actor__gradient="reinforce"))
    assert not target.requires_grad
    _, target, _ = losses(agent(behavior__actor__gradient="dynamics"))
    assert target.requires_grad


@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS])
def test_it_learns(spec: ActionSpec) -> None:
    one = agent(spec)
    for seed in range(2):
        metrics = one.train_step(random_steps(one.spec, (4, 3), seed))
        assert all(value.isfinite() for value in metrics.values())
