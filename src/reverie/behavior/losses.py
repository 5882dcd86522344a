"""Actor and critic losses on imagined trajectories (golden file 11)."""

import torch
from jaxtyping import Float
from torch import Tensor

from reverie.behavior.imagination import Trajectory
from reverie.behavior.networks import Actor, Critic
from reverie.behavior.returns import lambda_return
from reverie.networks.distributions import unit_normal_log_prob
from reverie.networks.scalars import Scalar, active


def value_targets(trajectory: Trajectory, value: Float[Tensor, "H1 N"], lambda_: float) -> Float[Tensor, "H N"]:
    """Lambda-returns of all states but the last, which is bootstrapped from (SPEC 28).

    Args:
        trajectory: supplies rewards and discounts.
        value: the target critic's values of all H+1 states.
        lambda_: of the lambda-return.
    """
    return lambda_return(trajectory.reward[:-1], value[:-1], trajectory.discount[:-1], value[-1], lambda_)


def add_entropy(
    reward: Float[Tensor, "H1 N"], actor: Actor, trajectory: Trajectory, entropy_weight: Scalar, gamma: float
) -> Float[Tensor, "H1 N"]:
    """Count the policy's entropy in a state as part of its reward: the article's long-term entropy.

        r'_t = r_t + eta_e c_t H(pi(. | z_t)),    c_t = min(g_t / gamma, 1)

    for t = 0 .. H-1; the last state is bootstrapped from, and keeps its r_H. c_t is the probability that the episode
    continues after z_t: the policy does not act in a terminal state. So V(z_t) holds the entropies of z_t and of its
    successors, and an action is credited with those of the states that it leads into. Where returns are differentiated,
    so is the entropy, with respect to the states and the actor's weights.
    """
    entropy = actor(trajectory.feat[:-1], trajectory.actor_hidden).entropy()
    continues = (trajectory.discount[:-1] / max(gamma, torch.finfo().tiny)).clamp(max=1)
    return torch.cat([reward[:-1] + entropy_weight * continues * entropy, reward[-1:]])


def actor_loss(
    actor: Actor,
    trajectory: Trajectory,
    target: Float[Tensor, "H N"],
    value: Float[Tensor, "H1 N"],
    *,
    dynamics_weight: Scalar,
    reinforce_weight: Scalar,
    entropy_weight: Scalar,
    detach_action: bool = True,
) -> tuple[Float[Tensor, ""], Float[Tensor, "H-1 N"]]:
    """Raise the return of the imagined actions (article, actor loss; SPEC 29, 30).

        loss = -mean(weight * (eta_s log pi(a_t|z_t) sg(V_{t+1} - v_t) + eta_d V_{t+1} + eta_e H(pi)))

    for t = 0 .. H-2. V_{t+1} is the return from the state that a_t leads into; v_t contains the reward and discount of
    z_t itself, an offset that the release leaves in the baseline. The score, log pi, is that of a sample without
    gradient, sg(a_t); the release keeps the sample's gradient where both gradients are mixed (`detach_action=False`).
    For continuous actions the two paths from the actor's weights to log pi then cancel, but for the truncation, and no
    Reinforce gradient is left (docs/fidelity.md, row 29). One-hot distributions stop that gradient themselves.

    Returns:
        The loss, and the policy's entropy in each state.
    """
    hidden = trajectory.actor_hidden
    policy = actor(trajectory.feat[:-2].detach(), hidden and [layer[:-1] for layer in hidden])
    objective = entropy_weight * policy.entropy()
    if active(reinforce_weight):
        advantage = (target[1:] - value[:-2]).detach()
        action = trajectory.action[1:-1].detach() if detach_action else trajectory.action[1:-1]
        objective = objective + reinforce_weight * policy.log_prob(action) * advantage
    if active(dynamics_weight):
        objective = objective + dynamics_weight * target[1:]
    return -(trajectory.weight[:-2] * objective).mean(), policy.entropy()


def critic_loss(
    critic: Critic, trajectory: Trajectory, target: Float[Tensor, "H N"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "H N"]]:
    """Regress the values onto the returns: 1/2 (v - sg(V))^2, plus a constant (article, critic loss; SPEC 31).

    Returns:
        The loss, and the critic's values.
    """
    value = critic(trajectory.feat[:-1].detach())
    log_prob = unit_normal_log_prob(value, target.detach(), 0)
    return -(trajectory.weight[:-1] * log_prob).mean(), value
