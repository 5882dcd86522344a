"""Actor and critic, trained on imagined rollouts (paper, section 2.2).

`lambda_return`, `actor_loss` and `critic_loss` are the equations, `ActorCritic.loss` puts them together.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.config import BehaviorConfig, parse_schedule
from reverie.dreamer.distributions import unit_normal_log_prob
from reverie.dreamer.heads import Actor, Critic, RewardNorm
from reverie.dreamer.imagination import ImaginationNoise, Trajectory, imagine
from reverie.dreamer.layers import Scalar, ScheduledValues, as_tensor, is_zero
from reverie.dreamer.rssm import State
from reverie.dreamer.world_model import WorldModel
from reverie.specs import ActionSpec


def lambda_return(
    reward: Float[Tensor, "H *N"],
    value: Float[Tensor, "H *N"],
    discount: Float[Tensor, "H *N"],
    bootstrap: Float[Tensor, "*N"],
    lambda_: float,
) -> Float[Tensor, "H *N"]:
    """Return the lambda-return, a mixture of all n-step returns (paper, eq. 4; SPEC 28; golden file 01).

        V_t = r_t + d_t * ((1 - lambda) * v_{t+1} + lambda * V_{t+1}),    V_H = v_H = bootstrap

    Args:
        reward: r_t, on arriving in state t.
        value: v_t.
        discount: d_t, the discount factor of state t.
        bootstrap: v_H, the value after the last step.
        lambda_: 0 is the one-step return, 1 the Monte Carlo return with a bootstrap at the end.
    """
    next_value = torch.cat([value[1:], bootstrap[None]])
    one_step = reward + discount * (1 - lambda_) * next_value
    returns = []
    last = bootstrap
    for t in reversed(range(reward.shape[0])):
        last = one_step[t] + discount[t] * lambda_ * last
        returns.append(last)
    return torch.stack(returns[::-1])


def add_entropy(
    reward: Float[Tensor, "H1 N"], actor: Actor, trajectory: Trajectory, entropy_weight: Scalar, gamma: float
) -> Float[Tensor, "H1 N"]:
    """Add the policy's entropy to the rewards: the article's long-term entropy.

        r'_t = r_t + eta_e c_t H(pi(. | z_t)),    c_t = min(d_t / gamma, 1)

    for t = 0 .. H-1; the last state's value is bootstrapped and its reward unchanged. c_t is the probability that the
    episode continues after z_t, since the policy does not act in a terminal state. V(z_t) then contains the entropies
    in z_t and its successors. Where returns are differentiated, so is the entropy.
    """
    entropy = actor(trajectory.feat[:-1]).entropy()
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
    """Return the actor loss: Reinforce, dynamics backpropagation, entropy (paper, eq. 6; SPEC 29, 30; golden file 11).

        loss = -mean(weight_t * (eta_s log pi(a_t|z_t) sg(V_{t+1} - v_t) + eta_d V_{t+1} + eta_e H(pi(.|z_t))))

    for t = 0 .. H-2, with the paper's rho for eta_s and 1 - rho for eta_d. V_{t+1} is the return from the state that
    a_t leads into; v_t includes the reward and discount of z_t itself, an offset of the release's baseline.

    log pi is that of sg(a_t). The release keeps the sample's gradient where both gradients are mixed
    (`detach_action=False`); for continuous actions the two paths from the actor's weights to log pi then cancel up to
    the truncation, and no Reinforce gradient is left (docs/fidelity.md, row 29). `OneHot.log_prob` has no gradient for
    the sample in any case.

    Returns:
        The loss, and the policy's entropy in each state.
    """
    # The action chosen in state t is entry t + 1, and so is the return from the state that it leads into.
    policy = actor(trajectory.feat[:-2].detach())
    entropy = policy.entropy()
    objective = entropy_weight * entropy
    if not is_zero(reinforce_weight):
        advantage = (target[1:] - value[:-2]).detach()
        action = trajectory.action[1:-1].detach() if detach_action else trajectory.action[1:-1]
        objective = objective + reinforce_weight * policy.log_prob(action) * advantage
    if not is_zero(dynamics_weight):
        objective = objective + dynamics_weight * target[1:]
    return -(trajectory.weight[:-2] * objective).mean(), entropy


def critic_loss(
    critic: Critic, trajectory: Trajectory, target: Float[Tensor, "H N"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "H N"]]:
    """Return the critic loss, the negative log-likelihood of a unit normal (paper, eq. 5; SPEC 31; golden file 11).

        loss = mean(weight_t * (1/2 (v_t - sg(V_t))^2 + 1/2 log 2 pi)),    t = 0 .. H-1

    Returns:
        The loss, and the critic's values.
    """
    value = critic(trajectory.feat[:-1].detach())
    log_prob = unit_normal_log_prob(value, target.detach(), 0)
    return -(trajectory.weight[:-1] * log_prob).mean(), value


RewardFunction = Callable[[Trajectory, Bool[Tensor, ""] | bool], Tensor]
"""Returns the rewards [H1, N] of rollouts in place of the world model's. The second argument is True where running
statistics are to be updated, as in training."""


class ImaginedTargets(NamedTuple):
    """Rollouts with their returns."""

    trajectory: Trajectory
    reward: Float[Tensor, "H1 N"]
    """Rewards in the return: normalised, with the entropy if `long_term_entropy` is on."""
    value: Float[Tensor, "H1 N"]
    """Values of the target critic."""
    target: Float[Tensor, "H N"]
    """Lambda-returns."""


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Return a context in which gradients flow through a module, and its own parameters have none."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class ActorCriticLoss(NamedTuple):
    """Result of `ActorCritic.loss`."""

    actor: Float[Tensor, ""]
    critic: Float[Tensor, ""]
    metrics: dict[str, Tensor]


class ActorCritic(nn.Module):
    """Actor, critic and target critic."""

    def __init__(self, config: BehaviorConfig, feat_size: int, action: ActionSpec) -> None:
        super().__init__()
        self.config = config
        self.actor = Actor(feat_size, action, config.actor)
        self.critic = Critic(feat_size, config.critic)
        # It has random weights of its own until the critic's first update (SPEC 32).
        self.target_critic = Critic(feat_size, config.critic).requires_grad_(False)
        self.reward_norm = RewardNorm(config.reward_norm)
        gradient = config.actor.gradient
        if gradient == "auto":
            gradient = "reinforce" if action.kind == "discrete" else "dynamics"
        self.gradient = gradient
        self.detach_action = gradient != "both" or config.actor.reinforce_sample == "detached"
        """True where log pi of Reinforce is that of a sample without gradient."""
        self.num_critic_updates = 0
        """Updates of the critic so far, counted by `update_target`; those of the world model alone do not count."""

    def gradient_weights(self, agent_step: float) -> tuple[float, float]:
        """Return (eta_d, eta_s), the weights of the dynamics and the Reinforce gradient."""
        if self.gradient != "both":
            return (0.0, 1.0) if self.gradient == "reinforce" else (1.0, 0.0)
        dynamics = parse_schedule(self.config.actor.dynamics_weight)(agent_step)
        reinforce = self.config.actor.reinforce_weight
        return dynamics, 1 - dynamics if reinforce is None else parse_schedule(reinforce)(agent_step)

    def scheduled_values(self, agent_step: float) -> dict[str, float]:
        """Return the values that `loss` reads from schedules."""
        dynamics, reinforce = self.gradient_weights(agent_step)
        entropy = parse_schedule(self.config.actor.entropy)(agent_step)
        return {"dynamics_weight": dynamics, "reinforce_weight": reinforce, "entropy_weight": entropy}

    def draw_noise(self, model: WorldModel, num_rollouts: int, generator: torch.Generator) -> ImaginationNoise:
        """Return noise for `loss`."""
        shape = (self.config.horizon, num_rollouts)
        return ImaginationNoise(
            model.rssm.latents.draw_noise(shape, generator), self.actor.draw_noise(shape, generator)
        )

    def imagine(
        self, model: WorldModel, start: State, is_terminal: Bool[Tensor, "N"], noise: ImaginationNoise | None
    ) -> Trajectory:
        """Roll out the actor from every start state; see `imagination.imagine`."""
        return imagine(model, self.actor, start, is_terminal, self.config.horizon, noise)

    def imagine_targets(
        self,
        model: WorldModel,
        start: State,
        is_terminal: Bool[Tensor, "N"],
        noise: ImaginationNoise | None,
        scheduled: ScheduledValues,
        update_reward_norm: Bool[Tensor, ""] | bool = False,
        reward_function: RewardFunction | None = None,
    ) -> ImaginedTargets:
        """Imagine rollouts and compute their lambda-returns (SPEC 23 to 28; golden files 12).

        Args:
            model: the world model.
            start: start states [N, …], without gradient.
            is_terminal: True where a start state ended its episode.
            noise: result of `draw_noise`; None takes modes.
            scheduled: result of `scheduled_values`.
            update_reward_norm: update the normalisation with these rewards first, as training does.
            reward_function: rewards in place of the world model's.
        """
        trajectory = self.imagine(model, start, is_terminal, noise)
        if reward_function is not None:
            trajectory = trajectory._replace(reward=reward_function(trajectory, update_reward_norm))
        if update_reward_norm is not False:
            self.reward_norm.update(trajectory.reward, update_reward_norm)
        reward = self.reward_norm(trajectory.reward)
        if self.config.long_term_entropy:
            reward = add_entropy(reward, self.actor, trajectory, scheduled["entropy_weight"], model.config.discount)
        value = (self.target_critic if self.config.critic.slow_target else self.critic)(trajectory.feat)
        target = lambda_return(reward[:-1], value[:-1], trajectory.discount[:-1], value[-1], self.config.return_lambda)
        return ImaginedTargets(trajectory, reward, value, target)

    def loss(
        self,
        model: WorldModel,
        start: State,
        is_terminal: Bool[Tensor, "N"],
        noise: ImaginationNoise | None,
        scheduled: ScheduledValues | None = None,
        is_valid: Bool[Tensor, ""] | bool = True,
        reward_function: RewardFunction | None = None,
    ) -> ActorCriticLoss:
        """Return the losses of actor and critic on rollouts from every start state (SPEC 23 to 31; golden files 12).

        Args:
            model: the world model, after its own update.
            start: start states [N, …], without gradient.
            is_terminal: True where a start state ended its episode.
            noise: result of `draw_noise`; None takes modes.
            scheduled: result of `scheduled_values`; None takes those of step 0.
            is_valid: False leaves the reward normalisation unchanged.
            reward_function: rewards in place of the world model's.
        """
        scheduled = self.scheduled_values(0) if scheduled is None else scheduled
        # Reinforce with detached actions does not differentiate the rollout.
        differentiates = not is_zero(scheduled["dynamics_weight"]) or not self.detach_action
        with frozen(model) if differentiates else torch.no_grad():
            trajectory, reward, value, target = self.imagine_targets(
                model, start, is_terminal, noise, scheduled, is_valid, reward_function
            )
        loss_actor, entropy = actor_loss(
            self.actor,
            trajectory,
            target,
            value,
            dynamics_weight=scheduled["dynamics_weight"],
            reinforce_weight=scheduled["reinforce_weight"],
            entropy_weight=scheduled["entropy_weight"],
            detach_action=self.detach_action,
        )
        loss_critic, predicted = critic_loss(self.critic, trajectory, target)
        metrics = {
            "actor/loss": loss_actor,
            "actor/entropy": entropy.mean(),
            "actor/entropy_weight": as_tensor(scheduled["entropy_weight"], value.device),
            "actor/dynamics_weight": as_tensor(scheduled["dynamics_weight"], value.device),
            "critic/loss": loss_critic,
            "critic/value": predicted.mean(),
            "critic/target_value": value.mean(),
            "imagination/return_mean": target.mean(),
            "imagination/return_std": target.std(correction=0),
            "imagination/reward_mean": trajectory.reward.mean(),
            "imagination/reward_std": trajectory.reward.std(correction=0),
            "imagination/normed_reward_mean": reward.mean(),
            "imagination/normed_reward_std": reward.std(correction=0),
            "imagination/discount": trajectory.discount.mean(),
        }
        return ActorCriticLoss(loss_actor, loss_critic, {name: value.detach() for name, value in metrics.items()})

    @torch.no_grad()
    def update_target(self) -> None:
        """Update the target critic, after each update of the critic (SPEC 32; golden file 16).

        The first call copies the critic; from there every `target_update_interval`-th one moves the target towards it
        by the share `target_tau`.
        """
        config = self.config.critic
        if self.num_critic_updates % config.target_update_interval == 0:
            tau = 1.0 if self.num_critic_updates == 0 else config.target_tau
            for target, source in zip(self.target_critic.parameters(), self.critic.parameters(), strict=True):
                target.lerp_(source, tau)
        self.num_critic_updates += 1
