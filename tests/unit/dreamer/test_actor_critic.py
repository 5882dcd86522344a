"""Returns, losses and targets of actor and critic, against sums written out."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie.dreamer import Dreamer, State
from reverie.dreamer.actor_critic import ImaginedTargets, add_entropy, critic_loss, lambda_return
from reverie.dreamer.imagination import ImaginationNoise, Trajectory
from reverie.specs import ActionSpec, EnvSpec
from tests.helpers.agents import ATARI_IMAGE, CONTINUOUS, DISCRETE, random_steps, tensors, tiny
from tests.helpers.returns import brute_force_return

ENTROPY = 0.5


def make(spec: ActionSpec = DISCRETE, gamma: float = 0.999, **settings: object) -> Dreamer:
    """Return an agent with settings of `behavior`, by path with `__` for the dots."""
    config = tiny(world_model__discount=gamma, **{f"behavior__{key}": value for key, value in settings.items()})
    return Dreamer(config, EnvSpec(ATARI_IMAGE, spec), seed=2)


def start_states(agent: Dreamer, shape: tuple[int, int] = (3, 2)) -> tuple[State, Tensor]:
    """Return the posterior states of random steps, in modes, and which of them are terminal."""
    batch, posterior, _ = agent.world_model.infer(tensors(random_steps(agent.spec, shape)))
    return posterior.map(lambda part: part.detach().flatten(0, 1)), batch["is_terminal"].flatten()


def noise_for(agent: Dreamer, num_rollouts: int) -> ImaginationNoise:
    return agent.actor_critic.draw_noise(agent.world_model, num_rollouts, torch.Generator().manual_seed(0))


def imagine_targets(agent: Dreamer, terminal: Tensor | None = None) -> ImaginedTargets:
    """Return targets on rollouts in modes."""
    start, is_terminal = start_states(agent)
    is_terminal = is_terminal if terminal is None else terminal
    values = agent.actor_critic.scheduled_values(0)
    return agent.actor_critic.imagine_targets(agent.world_model, start, is_terminal, None, values)


# --- lambda-return ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "lambda_"), list(product((1, 2, 7), (0.0, 0.3, 0.95, 1.0))))
def test_lambda_return_is_the_mixture_of_n_step_returns(steps: int, lambda_: float) -> None:
    generator = torch.Generator().manual_seed(steps)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()

    inputs = (draw(steps, 3), draw(steps, 3), draw(steps, 3), draw(3))
    torch.testing.assert_close(lambda_return(*inputs, lambda_), brute_force_return(*inputs, lambda_))
    assert torch.autograd.gradcheck(lambda *leaves: lambda_return(*leaves, lambda_), inputs)


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"critic__slow_target": False},
        {"reward_norm__momentum": 0.7, "reward_norm__scale": 2.0},
        {"actor__entropy": ENTROPY, "long_term_entropy": True},
        {"actor__entropy": ENTROPY, "long_term_entropy": True, "gamma": 0.3},  # below the predicted discounts
        {"return_lambda": 0.3, "horizon": 4, "reward_norm__momentum": 0.7, "long_term_entropy": True},
    ],
)
@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS])
def test_imagine_targets_are_those_of_single_steps(spec: ActionSpec, settings: dict[str, object]) -> None:
    """Rollouts step by step, the normalisation, the entropy and the returns written out."""
    agent = make(spec, **settings)
    model, actor_critic, config = agent.world_model, agent.actor_critic, agent.config.behavior
    for parameter in actor_critic.target_critic.parameters():
        parameter.add_(0.1)  # else it equals the critic
    state, is_terminal = start_states(agent)
    noise, values = noise_for(agent, len(is_terminal)), actor_critic.scheduled_values(0)
    found = actor_critic.imagine_targets(model, state, is_terminal, noise, values, update_reward_norm=True)

    gamma = agent.config.world_model.discount
    feats, actions = [state.feat], [torch.zeros(len(is_terminal), spec.size)]
    discounts = [gamma * (1 - is_terminal.float())]
    for t in range(config.horizon):
        actions.append(actor_critic.actor(state.feat).sample(noise.action[t]))
        state = model.rssm.imagine_step(state, actions[-1], noise.latent[t])
        feats.append(state.feat)
        discounts.append(torch.sigmoid(model.discount_head(state.feat).squeeze(-1)))
    feat, discount = torch.stack(feats), torch.stack(discounts)
    raw = model.reward_head(feat).squeeze(-1)
    momentum = config.reward_norm.momentum
    magnitude = momentum + (1 - momentum) * raw.abs().mean()
    reward = raw / (magnitude + config.reward_norm.eps) * config.reward_norm.scale
    if config.long_term_entropy:
        bonus = values["entropy_weight"] * (discount / gamma).clamp(max=1) * actor_critic.actor(feat).entropy()
        reward = torch.cat([reward[:-1] + bonus[:-1], reward[-1:]])
    critic = actor_critic.target_critic if config.critic.slow_target else actor_critic.critic
    value = critic.mlp(feat).squeeze(-1)
    target = brute_force_return(reward[:-1], value[:-1], discount[:-1], value[-1], config.return_lambda)

    torch.testing.assert_close(found.trajectory.feat, feat)
    torch.testing.assert_close(found.trajectory.action, torch.stack(actions))
    torch.testing.assert_close(found.trajectory.discount, discount)
    torch.testing.assert_close(found.trajectory.reward, raw)
    torch.testing.assert_close(found.reward, reward)
    torch.testing.assert_close(found.value, value)
    torch.testing.assert_close(found.target, target)
    weight = [torch.ones_like(discount[0])]
    for factor in discount[:-1]:
        weight.append(weight[-1] * factor)
    torch.testing.assert_close(found.trajectory.weight, torch.stack(weight))


def test_imagine_targets_change_the_reward_norm_only_when_asked() -> None:
    agent = make(reward_norm__momentum=0.5)
    actor_critic, values = agent.actor_critic, agent.actor_critic.scheduled_values(0)
    start, is_terminal = start_states(agent)
    before = actor_critic.reward_norm.magnitude.clone()
    actor_critic.imagine_targets(agent.world_model, start, is_terminal, None, values)
    assert torch.equal(actor_critic.reward_norm.magnitude, before)
    actor_critic.imagine_targets(agent.world_model, start, is_terminal, None, values, torch.tensor(False))
    assert torch.equal(actor_critic.reward_norm.magnitude, before)
    actor_critic.imagine_targets(agent.world_model, start, is_terminal, None, values, torch.tensor(True))
    assert not torch.equal(actor_critic.reward_norm.magnitude, before)


# --- losses ----------------------------------------------------------------------------------------------------------


def test_critic_loss_is_half_the_squared_error_and_a_constant() -> None:
    agent = make()
    imagined = imagine_targets(agent)
    loss, value = critic_loss(agent.actor_critic.critic, imagined.trajectory, imagined.target)
    error = (value - imagined.target).detach().numpy()
    weight = imagined.trajectory.weight[:-1].numpy()
    expected = (weight * (0.5 * error**2 + 0.5 * np.log(2 * np.pi))).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_critic_loss_trains_the_critic_alone() -> None:
    """Not the actor and the dynamics, through which its targets and states have gradients."""
    agent = make(CONTINUOUS)
    start, is_terminal = start_states(agent)
    loss = agent.actor_critic.loss(agent.world_model, start, is_terminal, None)
    others = [*agent.world_model.parameters(), *agent.actor_critic.actor.parameters()]
    assert all(gradient is None for gradient in torch.autograd.grad(loss.critic, others, allow_unused=True))


def test_actor_critic_loss_invalid_update_leaves_the_reward_norm() -> None:
    agent = make(reward_norm__momentum=0.5)
    start, is_terminal = start_states(agent)
    before = agent.actor_critic.reward_norm.magnitude.clone()
    agent.actor_critic.loss(agent.world_model, start, is_terminal, None, is_valid=torch.tensor(False))
    assert torch.equal(agent.actor_critic.reward_norm.magnitude, before)
    agent.actor_critic.loss(agent.world_model, start, is_terminal, None)
    assert not torch.equal(agent.actor_critic.reward_norm.magnitude, before)


@pytest.mark.parametrize(("gradient", "differentiates"), [("reinforce", False), ("dynamics", True), ("both", True)])
@pytest.mark.parametrize("long_term_entropy", [False, True])
def test_actor_loss_is_differentiated_through_the_world_model_by_dynamics_only(
    gradient: str, differentiates: bool, long_term_entropy: bool
) -> None:
    """The start states have a gradient then, and the parameters of the world model have none in any case."""
    agent = make(actor__gradient=gradient, long_term_entropy=long_term_entropy)
    parameters = list(agent.world_model.parameters())
    start, is_terminal = start_states(agent)
    start.deter.requires_grad_()
    loss = agent.actor_critic.loss(agent.world_model, start, is_terminal, None).actor
    assert all(parameter.requires_grad for parameter in parameters)
    of_start, *others = torch.autograd.grad(loss, [start.deter, *parameters], allow_unused=True)
    assert (of_start is not None and bool(of_start.any())) == differentiates
    assert all(gradient is None for gradient in others)


# --- long-term entropy -----------------------------------------------------------------------------------------------


def make_entropic(gradient: str = "reinforce", spec: ActionSpec = DISCRETE, **settings: object) -> Dreamer:
    on = {"actor__entropy": ENTROPY, "long_term_entropy": True, "actor__gradient": gradient}
    return make(spec, **{**on, **settings})


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_long_term_entropy_counts_the_entropy_of_each_state_in_the_return(gradient: str) -> None:
    agent = make_entropic(gradient)
    trajectory, reward, value, target = imagine_targets(agent)
    p = agent.actor_critic.actor(trajectory.feat).logits.softmax(-1).detach().numpy()
    entropy = torch.from_numpy(-(p * np.log(p)).sum(-1))
    continues = (trajectory.discount[:-1] / agent.config.world_model.discount).clamp(max=1)
    expected = trajectory.reward[:-1] + ENTROPY * continues * entropy[:-1]
    torch.testing.assert_close(reward[:-1], expected)
    torch.testing.assert_close(reward[-1], trajectory.reward[-1])
    returns = brute_force_return(expected, value[:-1], trajectory.discount[:-1], value[-1], 0.95)
    torch.testing.assert_close(target, returns)


def test_add_entropy_has_gradients_for_states_and_actor() -> None:
    actor = make_entropic().actor_critic.actor.double()
    feat = torch.randn((4, 2, actor.body[0].linear.in_features), dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros((4, 2), dtype=torch.float64)
    trajectory = Trajectory(feat, zeros[..., None], zeros, zeros + 0.9, zeros)
    value = add_entropy(zeros, actor, trajectory, ENTROPY, 0.9).sum()
    to_states, to_actor = torch.autograd.grad(value, (feat, actor.head.weight))
    assert to_states[:-1].abs().amax(-1).all() and not to_states[-1].any()
    assert to_actor.any()


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_long_term_entropy_of_terminal_states_is_zero(gradient: str) -> None:
    """The policy does not act in a terminal state."""
    terminal = torch.tensor([True, False, True, False, True, False])
    trajectory, reward, _, _ = imagine_targets(make_entropic(gradient), terminal)
    assert torch.equal(reward[0, terminal], trajectory.reward[0, terminal])
    assert (reward[0, ~terminal] > trajectory.reward[0, ~terminal]).all()


@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS])
def test_train_step_with_long_term_entropy_has_finite_metrics(spec: ActionSpec) -> None:
    agent = make_entropic("auto", spec)
    for seed in range(2):
        metrics = agent.train_step(tensors(random_steps(agent.spec, (4, 3), seed)))
        assert all(value.isfinite() for value in metrics.values())


# --- gradients of the actor ------------------------------------------------------------------------------------------


def actor_gradient(gradient: str, spec: ActionSpec = CONTINUOUS, narrow: bool = False, **settings: object) -> Tensor:
    """Return the gradient of the actor's loss on one batch, flattened, with equal weights and noise each time.

    With `narrow`, that of the layer of the means alone, where standard deviations are near their least, 0.1.
    """
    settings = {"gradient": gradient, "entropy": 0.0, **settings}
    agent = make(spec, **{f"actor__{name}": value for name, value in settings.items()})
    actor = agent.actor_critic.actor
    if narrow:
        torch.nn.init.constant_(actor.std_head.bias, -12.0)
    start, is_terminal = start_states(agent, (3, 4))
    loss = agent.actor_critic.loss(agent.world_model, start, is_terminal, noise_for(agent, len(is_terminal))).actor
    learned = actor.head.parameters() if narrow else actor.parameters()
    return torch.cat([value.flatten() for value in torch.autograd.grad(loss, list(learned))])


def test_actor_gradient_both_detached_is_the_weighted_sum_of_each_alone() -> None:
    reinforce, dynamics = actor_gradient("reinforce"), actor_gradient("dynamics")
    both = actor_gradient("both", dynamics_weight=0.3, reinforce_weight=0.9)
    torch.testing.assert_close(both, 0.9 * reinforce + 0.3 * dynamics, rtol=1e-3, atol=1e-6)


def test_actor_gradient_both_as_released_has_no_reinforce_part() -> None:
    """The sample moves with the mean, so that its density does not change: the reason for the default."""
    weights = {"dynamics_weight": 1e-9, "reinforce_weight": 1.0}
    reinforce, released, detached = (
        actor_gradient("reinforce", narrow=True),
        actor_gradient("both", narrow=True, reinforce_sample="release", **weights),
        actor_gradient("both", narrow=True, **weights),
    )
    torch.testing.assert_close(detached, reinforce, rtol=1e-4, atol=1e-7)
    assert released.norm() < 0.01 * reinforce.norm()


@pytest.mark.parametrize("form", ["detached", "release"])
@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE])
def test_actor_gradient_both_is_continuous_where_the_schedule_ends(form: str, spec: ActionSpec) -> None:
    last, ended = (
        actor_gradient("both", spec, dynamics_weight=weight, reinforce_weight=0.9, reinforce_sample=form)
        for weight in (1e-9, 0.0)
    )
    torch.testing.assert_close(last, ended, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("spec", "gradient", "expected"),
    [
        (DISCRETE, "auto", (0.0, 1.0)),
        (CONTINUOUS, "auto", (1.0, 0.0)),
        (DISCRETE, "dynamics", (1.0, 0.0)),
        (CONTINUOUS, "reinforce", (0.0, 1.0)),
        (DISCRETE, "both", (0.25, 0.75)),
    ],
)
def test_gradient_weights_of_a_schedule_are_its_values(
    spec: ActionSpec, gradient: str, expected: tuple[float, float]
) -> None:
    actor_critic = make(spec, actor__gradient=gradient, actor__dynamics_weight="linear(0.5,0,80)").actor_critic
    assert actor_critic.gradient_weights(40) == pytest.approx(expected)


# --- target critic ---------------------------------------------------------------------------------------------------


def test_update_target_moves_at_the_first_and_each_interval() -> None:
    """The first update copies the critic in full, whatever `target_tau` is (SPEC 32)."""
    actor_critic = make(critic__target_update_interval=100, critic__target_tau=0.5).actor_critic
    critic, target = (part.mlp[-1].bias for part in (actor_critic.critic, actor_critic.target_critic))
    moves = []
    for update in range(1, 203):
        with torch.no_grad():
            critic.fill_(update)
        before = target.item()
        actor_critic.update_target()
        if target.item() != before:
            moves.append((update, target.item()))
    assert moves == [(1, 1.0), (101, 51.0), (201, 126.0)]
