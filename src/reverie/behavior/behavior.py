"""Actor and critic, learning in imagination."""

from contextlib import nullcontext
from copy import deepcopy
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.behavior.imagination import ImaginationNoise, Trajectory, draw_imagination_noise, imagine
from reverie.behavior.losses import actor_loss, add_entropy, critic_loss, value_targets
from reverie.behavior.networks import Actor, Critic, RewardNorm
from reverie.config import BehaviorConfig
from reverie.networks.scalars import Scalars, active, as_tensor
from reverie.schedules import parse_schedule
from reverie.specs import ActionSpec
from reverie.world_model import State, WorldModel


class BehaviorLoss(NamedTuple):
    """What `Behavior.loss` returns."""

    actor: Float[Tensor, ""]
    critic: Float[Tensor, ""]
    trajectory: Trajectory
    target: Float[Tensor, "H N"]
    metrics: dict[str, Tensor]


class Behavior(nn.Module):
    """Policy and value function of the agent (the article's behavior learning section)."""

    def __init__(self, config: BehaviorConfig, feat_size: int, action: ActionSpec) -> None:
        super().__init__()
        self.config = config
        self.actor = Actor(feat_size, action, config.actor)
        self.critic = Critic(feat_size, config.critic)
        self.target_critic = deepcopy(self.critic).requires_grad_(False)
        self.reward_norm = RewardNorm(config.reward_norm)
        gradient = config.actor.gradient
        if gradient == "auto":
            gradient = "reinforce" if action.kind == "discrete" else "dynamics"
        self.gradient = gradient
        self.detaches_action = gradient != "both" or config.actor.reinforce_sample == "detached"
        """True where Reinforce's log pi is that of a sample without gradient."""
        self._dynamics_weight = parse_schedule(config.actor.dynamics_weight)
        reinforce_weight = config.actor.reinforce_weight
        self._reinforce_weight = None if reinforce_weight is None else parse_schedule(reinforce_weight)
        self._entropy = parse_schedule(config.actor.entropy)

    def gradient_weights(self, agent_step: float) -> tuple[float, float]:
        """(eta_d, eta_s): weights of the dynamics and the Reinforce gradient."""
        if self.gradient == "reinforce":
            return 0.0, 1.0
        if self.gradient == "dynamics":
            return 1.0, 0.0
        dynamics = self._dynamics_weight(agent_step)
        return dynamics, 1 - dynamics if self._reinforce_weight is None else self._reinforce_weight(agent_step)

    def scalars(self, agent_step: float) -> dict[str, float]:
        """Values of the schedules that `loss` reads."""
        dynamics, reinforce = self.gradient_weights(agent_step)
        return {
            "dynamics_weight": dynamics,
            "reinforce_weight": reinforce,
            "entropy_weight": self._entropy(agent_step),
        }

    def draw_noise(self, model: WorldModel, rollouts: int, generator: torch.Generator) -> ImaginationNoise:
        """Noise for `loss`."""
        return draw_imagination_noise(model, self.actor, self.config.horizon, rollouts, generator)

    def loss(
        self,
        model: WorldModel,
        start: State,
        is_terminal: Bool[Tensor, "N"],
        noise: ImaginationNoise | None,
        scalars: Scalars | None = None,
    ) -> BehaviorLoss:
        """Imagine from every start state and score the rollouts (SPEC 23 to 31; golden files 12).

        Args:
            model: the world model, after its own update.
            start: N posterior states without gradient.
            is_terminal: of those states.
            noise: None takes modes.
            scalars: of the same names as what `scalars` returns; None takes those of the first step.
        """
        scalars = self.scalars(0) if scalars is None else scalars
        critic = self.target_critic if self.config.critic.slow_target else self.critic
        # Reinforce on detached samples does not differentiate the rollout.
        differentiate = active(scalars["dynamics_weight"]) or not self.detaches_action
        with nullcontext() if differentiate else torch.no_grad():
            trajectory = imagine(model, self.actor, start, is_terminal, self.config.horizon, noise)
            raw_reward = trajectory.reward
            reward = self.reward_norm(raw_reward)
            if self.config.long_term_entropy:
                gamma = model.config.discount
                reward = add_entropy(reward, self.actor, trajectory, scalars["entropy_weight"], gamma)
            trajectory = trajectory._replace(reward=reward)
            value = critic(trajectory.feat)
            target = value_targets(trajectory, value, self.config.return_lambda)
        loss_actor, entropy = actor_loss(
            self.actor,
            trajectory,
            target,
            value,
            dynamics_weight=scalars["dynamics_weight"],
            reinforce_weight=scalars["reinforce_weight"],
            entropy_weight=scalars["entropy_weight"],
            detach_action=self.detaches_action,
        )
        loss_critic, predicted = critic_loss(self.critic, trajectory, target)
        metrics = {
            "behavior/actor_loss": loss_actor,
            "behavior/critic_loss": loss_critic,
            "behavior/actor_entropy": entropy.mean(),
            "behavior/entropy_weight": as_tensor(scalars["entropy_weight"], value.device),
            "behavior/dynamics_weight": as_tensor(scalars["dynamics_weight"], value.device),
            "behavior/value": predicted.mean(),
            "behavior/target_value": value.mean(),
            "behavior/return_mean": target.mean(),
            "behavior/return_std": target.std(correction=0),
            "behavior/reward_mean": raw_reward.mean(),
            "behavior/reward_std": raw_reward.std(correction=0),
            "behavior/normed_reward_mean": trajectory.reward.mean(),
            "behavior/normed_reward_std": trajectory.reward.std(correction=0),
            "behavior/discount": trajectory.discount.mean(),
        }
        detached = {key: metric.detach() for key, metric in metrics.items()}
        return BehaviorLoss(loss_actor, loss_critic, trajectory, target, detached)

    @torch.no_grad()
    def update_target(self, updates: int) -> None:
        """Copy the critic into the target critic when it is time (SPEC 32; golden file 16).

        Args:
            updates: updates of the critic before the latest one. The first call always makes a full copy; then every
                `target_update_interval`-th one copies, taking over the share `target_tau`. Updates of the world model
                alone do not count.
        """
        config = self.config.critic
        if updates % config.target_update_interval:
            return
        fraction = 1.0 if updates == 0 else config.target_tau
        for target, source in zip(self.target_critic.parameters(), self.critic.parameters(), strict=True):
            target.lerp_(source, fraction)
