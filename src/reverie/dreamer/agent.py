"""The agent: DreamerV2 as a whole (paper, section 2).

One update is `Dreamer.train_step`: the world model learns from a batch of sequences, then actor and critic learn from
rollouts inside it.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from reverie.config import Config, config_in_steps
from reverie.dreamer.actor_critic import ActorCritic, ActorCriticLoss
from reverie.dreamer.ensemble import Ensemble, Heads
from reverie.dreamer.exploration import ExploringPolicy, LearningExplorer, build_explorer, build_penalty_ensemble
from reverie.dreamer.imagination import ImaginationNoise, Trajectory
from reverie.dreamer.layers import ScheduledValues, autocast, initialize
from reverie.dreamer.optimizer import Optimizer
from reverie.dreamer.recurrent_policy import ActState, Mode, RecurrentPolicy
from reverie.dreamer.rssm import State
from reverie.dreamer.world_model import ModelLoss, WorldModel
from reverie.specs import EnvSpec

Metrics = dict[str, Tensor]
"""Scalars on the agent's device, by name."""
NONFINITE = "train/nonfinite_updates"
"""Metric of an update: 1 where a loss or gradients were not finite and an optimizer did not step, else 0."""


class Dreamer(nn.Module):
    """DreamerV2: world model, actor and critic with their optimizers and random generators."""

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Build an untrained agent.

        Args:
            config: all settings.
            spec: observations and actions of the environment.
            seed: seed of weights and samples; None takes `config.training.seed`.
            device: device of weights and samples.
            dtype: precision of matrix products and convolutions, float32 or bfloat16.
        """
        super().__init__()
        self.config, self.spec = config, spec
        self.device, self.dtype = torch.device(device), dtype
        in_steps = config_in_steps(config)  # durations of schedules in environment frames become agent steps
        seeds = torch.Generator().manual_seed(config.training.seed if seed is None else seed)
        weights_seed, learn_seed, act_seed = torch.randint(2**62, (3,), generator=seeds).tolist()
        self.world_model = WorldModel(in_steps.world_model, spec)
        self.actor_critic = ActorCritic(in_steps.behavior, self.world_model.rssm.feat_size, spec.action)
        self.explorer = build_explorer(in_steps, self.world_model, spec)
        """Behavior that collects in place of the task's; None where that does itself."""
        self.penalty_ensemble = build_penalty_ensemble(in_steps, self.world_model, spec, self.explorer)
        """Ensemble for the disagreement penalty alone, where no explorer has one."""
        initialize(self, torch.Generator().manual_seed(weights_seed))
        self.to(self.device)
        self.model_optimizer = Optimizer([self.world_model], in_steps.world_model.optimizer)
        self.actor_optimizer = Optimizer([self.actor_critic.actor], in_steps.behavior.actor.optimizer)
        self.critic_optimizer = Optimizer([self.actor_critic.critic], in_steps.behavior.critic.optimizer)
        self.other_optimizers: dict[str, Optimizer] = {}
        if self.heads is not None:
            self.other_optimizers["heads"] = Optimizer([self.heads], in_steps.exploration.head.optimizer)
        if isinstance(self.explorer, LearningExplorer):
            behavior, learner = in_steps.behavior, self.explorer.actor_critic
            self.other_optimizers["explorer_actor"] = Optimizer([learner.actor], behavior.actor.optimizer)
            self.other_optimizers["explorer_critic"] = Optimizer([learner.critic], behavior.critic.optimizer)
        self.generator = torch.Generator(self.device).manual_seed(learn_seed)
        """Source of all samples of training."""
        self.act_generator = torch.Generator(self.device).manual_seed(act_seed)
        """Source of all samples of acting, unless `act` is given another one."""
        self.carry: State | None = None
        """Last posterior states of the previous batch, where the next batch starts unless `is_first` (SPEC 22)."""
        self.updates = 0
        """Calls of `train_step` and `train_world_model` so far."""
        self.agent_steps = 0
        """Steps taken in environments so far, set by the training loop: the position in all schedules."""

    @property
    def recurrent_policy(self) -> RecurrentPolicy:
        """Acting part of the agent, with the agent's own weights."""
        model = self.world_model
        return RecurrentPolicy(model.preprocess, model.encoder, model.rssm, self.actor_critic.actor, self.dtype)

    @property
    def collecting_policy(self) -> RecurrentPolicy:
        """Acting part of the agent while it collects: the explorer's actor before `exploration.until`."""
        policy = self.recurrent_policy
        return policy if self.explorer is None else ExploringPolicy(policy, self.explorer)

    @property
    def actor_critics(self) -> list[ActorCritic]:
        """Actor and critic of the task, and those of an explorer that learns."""
        explorer = self.explorer
        return [self.actor_critic, *([explorer.actor_critic] if isinstance(explorer, LearningExplorer) else [])]

    @property
    def heads(self) -> Heads | None:
        """Networks that learn from posterior states: an explorer's, or the ensemble of the disagreement penalty."""
        return self.explorer.heads if isinstance(self.explorer, LearningExplorer) else self.penalty_ensemble

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        """All optimizers by name."""
        own = {"model": self.model_optimizer, "actor": self.actor_optimizer, "critic": self.critic_optimizer}
        return own | self.other_optimizers

    def act(
        self,
        obs: Mapping[str, Tensor],
        state: ActState | None = None,
        mode: Mode = "sample",
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, ActState]:
        """Choose actions in N environments; see `RecurrentPolicy.forward`.

        Args:
            obs: latest step of each environment, [N, …].
            state: result of the previous call; None at the start.
            mode: sample actions, or take the actor's mode, as in evaluation.
            generator: source of latent states and actions; None is the agent's own.

        Returns:
            Actions [N, A], one-hot or in [-1, 1], and the new state.
        """
        state = self.recurrent_policy(obs, state, mode, generator or self.act_generator)
        return state.action, state

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which matrix products and convolutions run in the agent's precision."""
        return autocast(self.device, self.dtype)

    def train_step(self, batch: Mapping[str, Tensor], *, sample: bool = True) -> Metrics:
        """Update world model, actor and critic once (SPEC 23; golden files 13).

        Rollouts start at every posterior state of the batch, or of its last `imagine_last` steps. The states are
        inferred before the world model's update, and the rollouts run in the world model after it. Where the world
        model's loss or gradients are not finite, no weights, moments or carried state change; where those of actor or
        critic are not, its own do not. The metric `train/nonfinite_updates` is 1 then.

        Args:
            batch: sequences of raw steps, [T, B, …].
            sample: False takes the mode of every latent state and action, for comparisons.
        """
        metrics = self.update(self.to_device(batch), self.scheduled_values(), sample)
        for actor_critic in self.actor_critics:
            actor_critic.update_target()
        self.updates += 1
        return metrics

    def train_world_model(self, batch: Mapping[str, Tensor]) -> Metrics:
        """Update the world model alone: the first half of `train_step`.

        Args:
            batch: sequences of raw steps, [T, B, …].
        """
        *_, metrics = self.update_world_model(self.to_device(batch), self.scheduled_values())
        self.updates += 1
        return metrics

    def posterior_noise(self, length: int, batch_size: int) -> Tensor:
        """Draw the noise of the posterior samples of a batch, [T, B, …]."""
        return self.world_model.rssm.latents.draw_noise((length, batch_size), self.generator)

    def imagination_noise(self, num_rollouts: int) -> ImaginationNoise:
        """Draw the noise of N rollouts, of which N / B start in each of T steps, [H, N, …]."""
        return self.actor_critic.draw_noise(self.world_model, num_rollouts, self.generator)

    def to_device(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Move a batch to the agent's device, and start the carried state if the batch size is new."""
        steps = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        batch_size = steps["is_first"].shape[1]
        if self.carry is None or self.carry.deter.shape[0] != batch_size:
            self.carry = self.world_model.rssm.initial((batch_size,))
        return steps

    def scheduled_values(self) -> dict[str, float]:
        """Return learning rates and loss weights of the next update."""
        step = self.agent_steps
        if self.explorer is not None:
            self.explorer.schedule(step)
        return {
            **self.world_model.scheduled_values(step),
            **self.actor_critic.scheduled_values(step),
            **{f"{name}_lr": optimizer.learning_rate(step) for name, optimizer in self.optimizers.items()},
        }

    def update(self, steps: dict[str, Tensor], scheduled: ScheduledValues, sample: bool = True) -> Metrics:
        """Update world model, actor and critic. It reads and changes tensors only, so that it can be recorded."""
        inferred, is_valid, metrics = self.update_world_model(steps, scheduled, sample)
        first = -self.config.behavior.imagine_last  # -0 keeps all steps
        start = inferred.posterior.map(lambda part: part[first:].flatten(0, 1).detach())
        is_terminal = steps["is_terminal"][first:].flatten()
        found = [metrics]
        if self.heads is not None:
            found.append(self.update_heads(self.heads, steps, inferred, is_valid, scheduled))
        found.append(self.update_actor_critic(start, is_terminal, is_valid, scheduled, sample))
        if isinstance(self.explorer, LearningExplorer):
            found.append(self.update_explorer(start, is_terminal, is_valid, scheduled, sample))
        nonfinite = torch.stack([each[NONFINITE] for each in found]).amax()
        return {name: value for each in found for name, value in each.items()} | {NONFINITE: nonfinite}

    def update_world_model(
        self, steps: dict[str, Tensor], scheduled: ScheduledValues, sample: bool = True
    ) -> tuple[ModelLoss, Bool[Tensor, ""], Metrics]:
        """Update the world model.

        Returns:
            The loss, with posterior states from before the update; whether the update was valid; and metrics.
        """
        model = self.world_model
        assert self.carry is not None
        model.preprocess.update(steps)
        noise = self.posterior_noise(*steps["is_first"].shape) if sample else None
        with self.autocast():
            inferred = model.loss(steps, self.carry, noise, scheduled)
        grad_norm, is_valid = self.model_optimizer.step(inferred.loss, scheduled["model_lr"])
        for carried, new in zip(self.carry, inferred.posterior, strict=True):  # in place: a recording reads them
            carried.copy_(torch.where(is_valid, new[-1].detach(), carried))
        metrics = inferred.metrics | {"model/gradient_norm": grad_norm, NONFINITE: (~is_valid).float()}
        return inferred, is_valid, metrics

    def update_heads(
        self,
        heads: Heads,
        steps: dict[str, Tensor],
        inferred: ModelLoss,
        is_valid: Bool[Tensor, ""],
        scheduled: ScheduledValues,
    ) -> Metrics:
        """Update the heads on inferred states, unless `is_valid` is False."""
        posterior = inferred.posterior
        known = {"stoch": posterior.stoch, "deter": posterior.deter, "feat": posterior.feat}
        known |= {"embed": inferred.embed, "kl": inferred.kl}
        targets = {name: value.detach().float() for name, value in known.items()}
        with self.autocast():
            loss, metrics = heads.loss(targets["feat"], targets, steps["action"], steps["is_first"])
        step = self.optimizers["heads"].step(loss, scheduled["heads_lr"], is_valid)
        metrics |= {"loss": loss.detach(), "gradient_norm": step.grad_norm}
        return {f"heads/{name}": value for name, value in metrics.items()} | {NONFINITE: (~step.is_valid).float()}

    def update_actor_critic(
        self,
        start: State,
        is_terminal: Bool[Tensor, "N"],
        is_valid: Bool[Tensor, ""],
        scheduled: ScheduledValues,
        sample: bool = True,
    ) -> Metrics:
        """Update actor and critic on rollouts from start states [N, …], unless `is_valid` is False."""
        noise = self.imagination_noise(len(is_terminal)) if sample else None
        ensemble, weight = self.heads, self.config.behavior.disagreement_penalty
        penalties: Metrics = {}

        def penalized(trajectory: Trajectory, _update: Bool[Tensor, ""] | bool) -> Tensor:
            assert isinstance(ensemble, Ensemble)
            penalty = weight * ensemble.penalty(trajectory.feat, trajectory.action)
            penalties["imagination/penalty_mean"] = penalty.detach().mean()
            return trajectory.reward - penalty

        with self.autocast():
            losses = self.actor_critic.loss(
                self.world_model, start, is_terminal, noise, scheduled, is_valid, penalized if weight else None
            )
        return self._step_actor_critic(losses, "", scheduled, is_valid) | penalties

    def update_explorer(
        self,
        start: State,
        is_terminal: Bool[Tensor, "N"],
        is_valid: Bool[Tensor, ""],
        scheduled: ScheduledValues,
        sample: bool = True,
    ) -> Metrics:
        """Update the explorer's actor and critic on rollouts from start states [N, …], unless `is_valid` is False."""
        explorer = self.explorer
        assert isinstance(explorer, LearningExplorer)
        noise = self.imagination_noise(len(is_terminal)) if sample else None
        with self.autocast():
            losses = explorer.actor_critic.loss(
                self.world_model, start, is_terminal, noise, scheduled, is_valid, explorer.reward
            )
        metrics = self._step_actor_critic(losses, "explorer_", scheduled, is_valid)
        nonfinite = metrics.pop(NONFINITE)
        return {f"explore/{name}": value for name, value in metrics.items()} | {NONFINITE: nonfinite}

    def _step_actor_critic(
        self, losses: ActorCriticLoss, prefix: str, scheduled: ScheduledValues, is_valid: Bool[Tensor, ""]
    ) -> Metrics:
        """Step the optimizers `{prefix}actor` and `{prefix}critic`."""
        actor, critic = (
            self.optimizers[prefix + name].step(loss, scheduled[f"{prefix}{name}_lr"], is_valid)
            for name, loss in (("actor", losses.actor), ("critic", losses.critic))
        )
        return {
            **losses.metrics,
            "actor/gradient_norm": actor.grad_norm,
            "critic/gradient_norm": critic.grad_norm,
            NONFINITE: (~(actor.is_valid & critic.is_valid)).float(),
        }
