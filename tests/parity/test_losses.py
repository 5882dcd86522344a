"""File 11: returns, actor loss and critic loss on given trajectories, and where their gradients go."""

import pytest
from torch import Tensor

from reverie.dreamer.actor_critic import ActorCritic, actor_loss, critic_loss, lambda_return
from reverie.dreamer.imagination import Trajectory
from tests.parity.compare import (
    DEVICE,
    FORWARD,
    GRADIENT,
    Golden,
    LoadGolden,
    LoadWeights,
    close,
    group,
    leaf_gradients,
    named_gradients,
    tensor,
)
from tests.parity.configs import CONTINUOUS, DISCRETE, config
from tests.parity.weights import close_gradients

CASES = [f"{kind}_{gradient}" for kind in ("discrete", "continuous") for gradient in ("reinforce", "dynamics", "both")]
every_case = pytest.mark.parametrize("case", CASES)


def _actor_critic(load: LoadWeights, arrays: Golden, case: str) -> ActorCritic:
    kind, gradient = case.split("_")
    settings = {
        "behavior__actor__gradient": gradient,
        "behavior__actor__entropy": 0.03,
        "behavior__actor__dynamics_weight": 0.1,
        "behavior__actor__reinforce_sample": "release",
    }
    action = DISCRETE if kind == "discrete" else CONTINUOUS
    actor_critic = ActorCritic(config("atari", **settings).behavior, arrays["seq/feat"].shape[-1], action).to(DEVICE)
    load(actor_critic, group(arrays, "param/"), "actor_critic")
    return actor_critic


def _trajectory(arrays: Golden) -> tuple[Trajectory, dict[str, Tensor]]:
    """The stored sequence, and those of its entries that can receive gradients."""
    leaves = {key: tensor(arrays[f"seq/{key}"], grad=True) for key in ("feat", "action", "reward", "discount")}
    # `Trajectory` promises a weight without gradient; that `imagine` keeps the promise is tested with files 12.
    weight = tensor(arrays["seq/weight"])
    return Trajectory(leaves["feat"], leaves["action"], leaves["reward"], leaves["discount"], weight), leaves


def _losses(actor_critic: ActorCritic, trajectory: Trajectory) -> dict[str, Tensor]:
    value = actor_critic.target_critic(trajectory.feat)
    reward, discount = trajectory.reward[:-1], trajectory.discount[:-1]
    target = lambda_return(reward, value[:-1], discount, value[-1], actor_critic.config.return_lambda)
    dynamics_weight, reinforce_weight = actor_critic.gradient_weights(0)
    loss_actor, entropy = actor_loss(
        actor_critic.actor,
        trajectory,
        target,
        value,
        dynamics_weight=dynamics_weight,
        reinforce_weight=reinforce_weight,
        entropy_weight=float(actor_critic.config.actor.entropy),
        detach_action=actor_critic.detach_action,
    )
    loss_critic, predicted = critic_loss(actor_critic.critic, trajectory, target)
    return {
        "value": value,
        "target": target,
        "entropy": entropy,
        "actor_loss": loss_actor,
        "critic_loss": loss_critic,
        "predicted": predicted,
    }


@every_case
def test_losses_of_stored_trajectory_have_the_values_of_the_release(
    golden: LoadGolden, load: LoadWeights, case: str
) -> None:
    arrays = group(golden("11_actor_critic_synthetic"), f"{case}/")
    actor_critic = _actor_critic(load, arrays, case)
    trajectory, _ = _trajectory(arrays)
    found = _losses(actor_critic, trajectory)
    for key in ("value", "target", "entropy", "actor_loss", "critic_loss"):
        close(found[key], arrays[key], FORWARD, key)
    log_prob = actor_critic.actor(trajectory.feat[:-2]).log_prob(trajectory.action[1:-1])
    close(log_prob, arrays["log_prob"], FORWARD)
    metrics = {
        "critic_slow": found["value"].mean(),
        "critic_target": found["target"].mean(),
        "actor_ent": found["entropy"].mean(),
        "actor_ent_scale": float(actor_critic.config.actor.entropy),
        "critic": found["predicted"].mean(),
    }
    if case.endswith("both"):
        metrics["actor_grad_mix"] = actor_critic.gradient_weights(0)[0]
    expected = group(arrays, "metric/")
    assert metrics.keys() == expected.keys()
    for key, value in metrics.items():
        close(value, expected[key], FORWARD, key)


@every_case
def test_losses_of_stored_trajectory_have_the_weight_gradients_of_the_release(
    golden: LoadGolden, load: LoadWeights, case: str
) -> None:
    arrays = group(golden("11_actor_critic_synthetic"), f"{case}/")
    actor_critic = _actor_critic(load, arrays, case)
    trajectory, _ = _trajectory(arrays)
    found = _losses(actor_critic, trajectory)
    for part, module in (("actor", actor_critic.actor), ("critic", actor_critic.critic)):
        gradients = named_gradients(found[f"{part}_loss"], module)
        close_gradients(gradients, group(arrays, f"grad_{part}_loss/"), GRADIENT, f"actor_critic.{part}")


@every_case
def test_actor_loss_has_the_trajectory_gradients_of_the_release(
    golden: LoadGolden, load: LoadWeights, case: str
) -> None:
    arrays = group(golden("11_actor_critic_synthetic"), f"{case}/")
    actor_critic = _actor_critic(load, arrays, case)
    trajectory, leaves = _trajectory(arrays)
    loss = _losses(actor_critic, trajectory)["actor_loss"]
    for key, gradient in zip(leaves, leaf_gradients(loss, leaves.values()), strict=True):
        close(gradient, arrays[f"grad_actor_loss_seq/{key}"], GRADIENT, key)
    assert not arrays["grad_actor_loss_seq/weight"].any()


@every_case
def test_losses_have_no_gradients_for_other_parts(golden: LoadGolden, load: LoadWeights, case: str) -> None:
    """The critic's loss does not reach the trajectory, and neither loss the other's or the target's weights."""
    arrays = group(golden("11_actor_critic_synthetic"), f"{case}/")
    actor_critic = _actor_critic(load, arrays, case)
    trajectory, leaves = _trajectory(arrays)
    found = _losses(actor_critic, trajectory)
    assert not any(gradient.any() for gradient in leaf_gradients(found["critic_loss"], leaves.values()))
    for loss, other in (("actor_loss", actor_critic.critic), ("critic_loss", actor_critic.actor)):
        assert not any(gradient.any() for gradient in named_gradients(found[loss], other).values())
    assert not any(parameter.requires_grad for parameter in actor_critic.target_critic.parameters())
