"""Exploration: behaviors that collect what the world model does not know yet (release: expl.py).

`Plan2Explore` maximises the disagreement of an ensemble about the next step (Sekar et al., 2020), `ModelLoss` the
world model's KL, `RandomExplorer` nothing. Each has an actor of its own; the task's behavior learns beside it from the
same data.
"""

from abc import abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.config import Config
from reverie.dreamer.actor_critic import ActorCritic
from reverie.dreamer.distributions import ActionDistribution, OneHot, Uniform, draw_uniform
from reverie.dreamer.ensemble import Ensemble, Heads, KLHead
from reverie.dreamer.heads import Actor, RewardNorm
from reverie.dreamer.imagination import Trajectory
from reverie.dreamer.recurrent_policy import Mode, RecurrentPolicy
from reverie.dreamer.world_model import WorldModel
from reverie.specs import ActionSpec, EnvSpec


class Explorer(nn.Module):
    """Base of the exploring behaviors, which act before step `exploration.until`."""

    is_acting: Bool[Tensor, ""]
    """True while this behavior collects. `ExploringPolicy` has it as a buffer that is published with the weights, so
    that asynchronous and remote collectors change actors at `exploration.until`, too."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._until = config.exploration.until
        self.register_buffer("is_acting", torch.ones((), dtype=torch.bool), persistent=False)

    @abstractmethod
    def get_actor(self) -> Actor:
        """Return the actor that collects."""

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

    def __init__(self, config: Config, heads: Heads, feat_size: int, action: ActionSpec) -> None:
        super().__init__(config)
        self.config = config.exploration
        self.heads = heads
        """Networks of which the intrinsic reward is made."""
        self.actor_critic = ActorCritic(config.behavior, feat_size, action)

    def get_actor(self) -> Actor:
        """Return the actor that collects."""
        return self.actor_critic.actor

    @abstractmethod
    def reward(self, trajectory: Trajectory, update_norms: Bool[Tensor, ""] | bool = False) -> Float[Tensor, "H1 N"]:
        """Return the rewards of rollouts, see `actor_critic.RewardFunction`."""


class Plan2Explore(LearningExplorer):
    """Seeks states about whose successors an ensemble disagrees (Sekar et al., 2020).

        r_t     = intrinsic_scale norm(mean_d std_k f_k(z_t, a_{t-1})_d) + extrinsic_scale norm(r^task_t)   `previous`
        r_{t+1} = intrinsic_scale norm(mean_d std_k f_k(z_t, a_t)_d) + extrinsic_scale norm(r^task_{t+1})   `next`

    where a_t is chosen in z_t, see `Ensemble`. With `next`, the start state has the reward of the one after it. The
    settings `head.log` and `head.spread` take the logarithm, and the variance instead of the standard deviation.
    """

    heads: Ensemble

    def __init__(self, config: Config, ensemble: Ensemble, feat_size: int, action: ActionSpec) -> None:
        super().__init__(config, ensemble, feat_size, action)
        self.intrinsic_norm, self.extrinsic_norm = (RewardNorm(self.config.reward_norm) for _ in range(2))

    def reward(self, trajectory: Trajectory, update_norms: Bool[Tensor, ""] | bool = False) -> Float[Tensor, "H1 N"]:
        """Return the normalised disagreement, and the task's reward where it has a weight."""
        config = self.config
        intrinsic = self.heads.disagreement(trajectory.feat, trajectory.action)
        if config.head.log:
            intrinsic = intrinsic.log()
        reward = config.intrinsic_scale * _normalized(self.intrinsic_norm, intrinsic, update_norms)
        if len(reward) < len(trajectory.feat):  # no action led into the start state; it gets the reward of the next one
            reward = torch.cat([reward[:1].detach(), reward])
        if config.extrinsic_scale:
            extrinsic = _normalized(self.extrinsic_norm, trajectory.reward, update_norms)
            reward = reward + config.extrinsic_scale * extrinsic
        return reward


class ModelLoss(LearningExplorer):
    """Seeks states in which the posterior differs from the prior: r_t = f(z_t), see `KLHead`."""

    heads: KLHead

    def reward(self, trajectory: Trajectory, update_norms: Bool[Tensor, ""] | bool = False) -> Float[Tensor, "H1 N"]:
        """Return the predicted KL, and the task's reward where it has a weight; nothing is normalised (release)."""
        reward = self.config.intrinsic_scale * self.heads(trajectory.feat)
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


def build_ensemble(config: Config, model: WorldModel, spec: EnvSpec) -> Ensemble:
    """Return the ensemble of a world model."""
    head, feat_size, deter = config.exploration.head, model.rssm.feat_size, model.rssm.deter_size
    sizes = {"stoch": feat_size - deter, "deter": deter, "feat": feat_size, "embed": model.encoder.output_size}
    pairing = head.action
    if pairing == "auto":
        pairing = "previous" if config.training.explore == "plan2explore" else "next"
    return Ensemble(head, pairing, feat_size, spec.action.size, sizes[head.target])


def build_explorer(config: Config, model: WorldModel, spec: EnvSpec) -> Explorer | None:
    """Return the explorer of `training.explore`, None for greedy."""
    kind, feat_size = config.training.explore, model.rssm.feat_size
    if kind == "plan2explore":
        return Plan2Explore(config, build_ensemble(config, model, spec), feat_size, spec.action)
    if kind == "model-loss":
        return ModelLoss(config, KLHead(config.exploration.head, feat_size), feat_size, spec.action)
    return RandomExplorer(config, spec.action) if kind == "random" else None


def build_penalty_ensemble(
    config: Config, model: WorldModel, spec: EnvSpec, explorer: Explorer | None
) -> Ensemble | None:
    """Return the ensemble of the disagreement penalty; None without a penalty, and where the explorer has one."""
    if not config.behavior.disagreement_penalty or isinstance(explorer, Plan2Explore):
        return None
    return build_ensemble(config, model, spec)


def _normalized(norm: RewardNorm, reward: Tensor, update: Bool[Tensor, ""] | bool) -> Tensor:
    if update is not False:
        norm.update(reward, update)
    return norm(reward)
