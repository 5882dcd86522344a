"""Exploration: behaviors that collect what the world model does not know yet (release: expl.py).

`Plan2Explore` maximises the disagreement of an ensemble about the next step (Sekar et al., 2020), `ModelLoss` the
world model's KL, `RandomExplorer` nothing. Each has an actor of its own; the task's behavior learns beside it from the
same data.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.config import Config
from reverie.dreamer.actor_critic import ActorCritic, frozen
from reverie.dreamer.distributions import ActionDistribution, OneHot, Uniform, draw_uniform, unit_normal_log_prob
from reverie.dreamer.heads import Actor, RewardNorm
from reverie.dreamer.imagination import Trajectory
from reverie.dreamer.layers import MLP
from reverie.dreamer.optimizer import Optimizer
from reverie.dreamer.recurrent_policy import Mode, RecurrentPolicy
from reverie.dreamer.world_model import WorldModel
from reverie.specs import ActionSpec, EnvSpec


class Explorer(nn.Module):
    """Base of the exploring behaviors, which act before step `exploration.until`."""

    is_acting: Bool[Tensor, ""]
    """True while this behavior collects; a tensor, so that copies of a policy follow it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._until = config.exploration.until
        self.register_buffer("is_acting", torch.ones((), dtype=torch.bool), persistent=False)

    def get_actor(self) -> Actor:
        """Return the actor that collects."""
        raise NotImplementedError

    def schedule(self, agent_step: int) -> None:
        """Set whether this behavior acts at a step."""
        self.is_acting.fill_(self._until == 0 or agent_step < self._until)


class RandomActor(Actor):
    """Uniform actions, in every state."""

    def __init__(self, action: ActionSpec) -> None:
        nn.Module.__init__(self)  # it has no networks
        self.spec = action

    def forward(self, feat: Float[Tensor, "*N F"]) -> ActionDistribution:
        """Return the distribution over actions in each state."""
        shape = (*feat.shape[:-1], self.spec.size)
        if self.spec.kind == "discrete":
            return OneHot(torch.zeros(shape, device=feat.device), self.spec.sizes)
        return Uniform(shape, feat.device)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return standard noise for actions of leading shape `shape`."""
        is_discrete = self.spec.kind == "discrete"
        return draw_uniform((*shape, len(self.spec.sizes) if is_discrete else self.spec.size), generator)


class RandomExplorer(Explorer):
    """Explores by uniform actions."""

    def __init__(self, config: Config, action: ActionSpec) -> None:
        super().__init__(config)
        self._actor = RandomActor(action)

    def get_actor(self) -> Actor:
        """Return the actor that collects."""
        return self._actor


class LearningExplorer(Explorer):
    """Base of explorers whose actor maximises an intrinsic reward in imagination."""

    heads: nn.ModuleList
    """Networks of which the intrinsic reward is made."""

    def __init__(self, config: Config, feat_size: int, action: ActionSpec) -> None:
        super().__init__(config)
        self.config = config.exploration
        self.actor_critic = ActorCritic(config.behavior, feat_size, action)

    def get_actor(self) -> Actor:
        """Return the actor that collects."""
        return self.actor_critic.actor

    def optimizers(self, config: Config) -> dict[str, Optimizer]:
        """Return new optimizers of heads, actor and critic."""
        behavior = config.behavior
        return {
            "explorer_head": Optimizer([self.heads], config.exploration.head.optimizer),
            "explorer_actor": Optimizer([self.actor_critic.actor], behavior.actor.optimizer),
            "explorer_critic": Optimizer([self.actor_critic.critic], behavior.critic.optimizer),
        }

    def loss(
        self,
        feat: Float[Tensor, "T B F"],
        targets: dict[str, Tensor],
        action: Float[Tensor, "T B A"],
        is_first: Bool[Tensor, "T B"],
    ) -> Float[Tensor, ""]:
        """Return the loss of the heads on posterior states.

        Args:
            feat: features of posterior states, without gradient.
            targets: `stoch`, `deter`, `feat`, `embed` [T, B, …], and `kl` [T, B], without gradient.
            action: actions, of which `action[t]` led into state t.
            is_first: True where an episode begins, which nothing before predicts.
        """
        raise NotImplementedError

    def reward(self, trajectory: Trajectory, update_norms: Bool[Tensor, ""] | bool = False) -> Float[Tensor, "H1 N"]:
        """Return the rewards of rollouts, see `actor_critic.RewardFunction`."""
        raise NotImplementedError


class Plan2Explore(LearningExplorer):
    """Seeks states about whose successors an ensemble disagrees (Sekar et al., 2020).

        r_t = norm(mean_d std_k f_k(z_t, a)_d),    loss = -sum over k of mean(log N(target_{t+1} | f_k(z_t, a), 1))

    with the target's entries d. The release pairs z_t with the action that led into it, both in training and in
    imagination: the reward of state t then estimates how uncertain its successors are, whatever the agent does.
    `action=next` pairs it with the action chosen in it, and the reward belongs to the state that it leads into.
    """

    def __init__(self, config: Config, feat_size: int, action: ActionSpec, target_sizes: dict[str, int]) -> None:
        super().__init__(config, feat_size, action)
        head = self.config.head
        inputs = feat_size + (0 if head.action == "none" else action.size)
        self.heads = nn.ModuleList(MLP(inputs, head, outputs=target_sizes[head.target]) for _ in range(head.models))
        self.intrinsic_norm, self.extrinsic_norm = (RewardNorm(self.config.reward_norm) for _ in range(2))

    def loss(self, feat: Tensor, targets: dict[str, Tensor], action: Tensor, is_first: Tensor) -> Float[Tensor, ""]:
        """Return the negative log-likelihood of the next steps, summed over members; see `LearningExplorer.loss`."""
        inputs, target = self._inputs(feat, action)[: len(feat) - 1], targets[self.config.head.target][1:]
        likelihood = torch.stack([unit_normal_log_prob(head(inputs), target, 1) for head in self.heads]).sum(0)
        return -(likelihood * ~is_first[1:]).mean()

    def disagreement(self, feat: Float[Tensor, "H1 N F"], action: Float[Tensor, "H1 N A"]) -> Float[Tensor, "_ N"]:
        """Return the standard deviation of the members' predictions, the mean over entries, for each input."""
        inputs = self._inputs(feat, action)
        with frozen(self.heads):
            return torch.stack([head(inputs) for head in self.heads]).std(0, correction=0).mean(-1)

    def reward(self, trajectory: Trajectory, update_norms: Bool[Tensor, ""] | bool = False) -> Float[Tensor, "H1 N"]:
        """Return the normalised disagreement, and the task's reward where it has a weight."""
        config = self.config
        intrinsic = self.disagreement(trajectory.feat, trajectory.action)
        if config.head.log:
            intrinsic = intrinsic.log()
        reward = config.intrinsic_scale * _normalized(self.intrinsic_norm, intrinsic, update_norms)
        if config.head.action == "next":  # no action led into the start state; it gets the reward of the next one
            reward = torch.cat([reward[:1].detach(), reward])
        if config.extrinsic_scale:
            extrinsic = _normalized(self.extrinsic_norm, trajectory.reward, update_norms)
            reward = reward + config.extrinsic_scale * extrinsic
        return reward

    def _inputs(self, feat: Tensor, action: Tensor) -> Tensor:
        """Return states with actions; with the next action there is no input for the last state."""
        if self.config.head.action == "none":
            return feat
        if self.config.head.action == "next":
            feat, action = feat[:-1], action[1:]
        return torch.cat([feat, action.to(feat.dtype)], -1)


class ModelLoss(LearningExplorer):
    """Seeks states in which the posterior differs from the prior, as predicted by one head.

    r_t = f(z_t),    loss = -mean(log N(KL_t | f(z_t), 1))
    """

    def __init__(self, config: Config, feat_size: int, action: ActionSpec) -> None:
        super().__init__(config, feat_size, action)
        self.heads = nn.ModuleList([MLP(feat_size, self.config.head, outputs=1)])

    def loss(self, feat: Tensor, targets: dict[str, Tensor], action: Tensor, is_first: Tensor) -> Float[Tensor, ""]:
        """Return the negative log-likelihood of the KL; see `LearningExplorer.loss`."""
        return -unit_normal_log_prob(self.heads[0](feat).squeeze(-1), targets["kl"], 0).mean()

    def reward(self, trajectory: Trajectory, update_norms: Bool[Tensor, ""] | bool = False) -> Float[Tensor, "H1 N"]:
        """Return the predicted KL, and the task's reward where it has a weight; nothing is normalised (release)."""
        with frozen(self.heads):
            reward = self.config.intrinsic_scale * self.heads[0](trajectory.feat).squeeze(-1)
        if self.config.extrinsic_scale:
            reward = reward + self.config.extrinsic_scale * trajectory.reward
        return reward


class ExploringPolicy(RecurrentPolicy):
    """A policy that samples the explorer's actions while that acts, and else the task's."""

    def __init__(self, policy: RecurrentPolicy, explorer: Explorer) -> None:
        super().__init__(policy.preprocess, policy.encoder, policy.rssm, policy.actor, policy.dtype)
        self.explorer_actor = explorer.get_actor()
        self.register_buffer("is_exploring", explorer.is_acting)

    def choose_actor(self, mode: Mode) -> Actor:
        """Return the actor that acts in a mode."""
        return self.explorer_actor if mode == "sample" and bool(self.is_exploring) else self.actor


def build_explorer(config: Config, model: WorldModel, spec: EnvSpec) -> Explorer | None:
    """Return the explorer of `training.explore`, None for greedy."""
    kind: Literal["greedy", "plan2explore", "model-loss", "random"] = config.training.explore
    feat_size = model.rssm.feat_size
    if kind == "plan2explore":
        deter = model.rssm.deter_size
        sizes = {"stoch": feat_size - deter, "deter": deter, "feat": feat_size, "embed": model.encoder.output_size}
        return Plan2Explore(config, feat_size, spec.action, sizes)
    if kind == "model-loss":
        return ModelLoss(config, feat_size, spec.action)
    return RandomExplorer(config, spec.action) if kind == "random" else None


def _normalized(norm: RewardNorm, reward: Tensor, update: Bool[Tensor, ""] | bool) -> Tensor:
    if update is not False:
        norm.update(reward, update)
    return norm(reward)
