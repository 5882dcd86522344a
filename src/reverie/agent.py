"""The agent: acts in batches of environments, and learns from batches of sequences."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from reverie.acting import ActState, Player, autocast, check_observation, check_state, to_tensors
from reverie.behavior import Behavior
from reverie.checkpoints import Snapshot, read_checkpoint, restore_torch, torch_state, understood, write_checkpoint
from reverie.config import Config
from reverie.config_io import flatten, from_dict, schedules_in_steps, to_dict
from reverie.errors import CheckpointError, ConfigError
from reverie.fast.compiled import Fusion, can_compile
from reverie.fast.cuda_graphs import CudaRecorder, Graphed
from reverie.networks.layers import initialize
from reverie.networks.optimizer import Optimizer
from reverie.networks.scalars import Scalars
from reverie.specs import Array, EnvSpec
from reverie.world_model import State, WorldModel

SKIPPED = "updates/skipped"
"""Metric of an update: 1 where world model, actor or critic did not learn, for a number that is not finite; else 0."""


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is a device.

    Raises:
        ConfigError: if CUDA is asked for and absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            "device is 'cuda', but PyTorch finds no CUDA device here; use --device cpu, or install a CUDA build of "
            "PyTorch and check the driver with nvidia-smi."
        )
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """The GPU's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _exact(numbers: Mapping[str, float]) -> dict[str, float]:
    """As exact as a tensor holds them: an update is the same whether it reads numbers or tensors."""
    return {name: float(np.float32(value)) for name, value in numbers.items()}


def _check_sizes(config: Config, spec: EnvSpec, weights: Mapping[str, Tensor]) -> None:
    """Make sure that an agent has the sizes of these weights, before memory is taken for it; raises CheckpointError."""
    deepest = max(value for path, value in flatten(config).items() if path.endswith(".layers"))
    if deepest <= len(weights):
        with torch.device("meta"):
            parts = _parts(config, spec)
            expected = nn.ModuleDict(parts._asdict()).state_dict()
        if {name: value.shape for name, value in expected.items()} == {name: w.shape for name, w in weights.items()}:
            return
    raise CheckpointError("The checkpoint's weights are not of the sizes that its configuration says.")


class _Parts(NamedTuple):
    """What has weights; the names are those of the agent's attributes."""

    world_model: WorldModel
    behavior: Behavior


def _parts(config: Config, spec: EnvSpec) -> _Parts:
    """Both, with weights as PyTorch initialises them."""
    counted = schedules_in_steps(config)  # what learns knows agent steps, and not how many frames they have
    model = WorldModel(counted.world_model, spec)
    return _Parts(model, Behavior(counted.behavior, model.rssm.feat_size, spec.action))


class Dreamer(nn.Module):
    """DreamerV2.

    Owns the world model, the behavior, their three optimizers and the random generators: everything that learning
    needs to go on, and nothing else.
    """

    def __init__(self, config: Config, spec: EnvSpec, seed: int | None = None, device: str | None = None) -> None:
        """Build an untrained agent.

        Args:
            config: all settings.
            spec: the environment's observations and actions.
            seed: of weights and samples; None takes `config.training.seed`.
            device: None takes `config.training.device`.
        """
        super().__init__()
        self.config = config
        self.spec = spec
        self.device = resolve_device(device or config.training.device)
        weights_seed, learn_seed, act_seed = (
            int(child.generate_state(1)[0])
            for child in np.random.SeedSequence(config.training.seed if seed is None else seed).spawn(3)
        )
        self.world_model, self.behavior = _parts(config, spec)
        encoded, norm = self.world_model.encoder.keys, self.world_model.vector_norm
        needed = {*encoded.images, *encoded.vectors, *(norm.keys if norm is not None else ())}
        self._read = [key for key in spec.observations if key in needed]
        """Observations that acting needs."""
        counted = schedules_in_steps(config)
        initialize(self, torch.Generator().manual_seed(weights_seed))
        self.to(self.device)
        self.model_optimizer = Optimizer([self.world_model], counted.world_model.optimizer)
        self.actor_optimizer = Optimizer([self.behavior.actor], counted.behavior.actor.optimizer)
        self.critic_optimizer = Optimizer([self.behavior.critic], counted.behavior.critic.optimizer)
        self.generator = torch.Generator(self.device).manual_seed(learn_seed)
        """Source of all samples drawn while learning."""
        self.act_generator = torch.Generator(self.device).manual_seed(act_seed)
        """Source of all samples drawn while acting, unless `act` is given another one."""
        self.carry: State | None = None
        """Last posterior of the previous batch, where the next one starts; steps with is_first ignore it (SPEC 22)."""
        self.updates = 0
        """Updates of the world model so far: calls of `train_step` and `train_world_model`."""
        self.agent_steps = 0
        """Steps taken in environments so far; the position in all schedules. Set by whoever collects."""
        wants_graph = config.training.cuda_graphs and self.device.type == "cuda"
        recorder = CudaRecorder(self.device, [self.generator]) if wants_graph else None
        self._graph = Graphed(self._learn, self.device, recorder, "Learning") if recorder else None
        self.compiles = config.training.compile == "auto" and can_compile(self.device)
        """Whether the first updates take a minute longer, because parts of the model are compiled."""
        self._fusion: AbstractContextManager[Any] = nullcontext()
        if self.compiles:
            self._fusion = Fusion(self.world_model.rssm, ("observe_step", "imagine_step"))

    @property
    def player(self) -> Player:
        """The part of the agent that decides, with the agent's own weights."""
        return Player(self.world_model, self.behavior.actor, self.config, self.spec, self.act_generator)

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self.device, self.config)

    def to_tensors(self, steps: Mapping[str, Array | Tensor]) -> dict[str, Tensor]:
        """Arrays to tensors on the agent's device; dtypes stay."""
        return to_tensors(steps, self.device)

    def act(
        self,
        observation: Mapping[str, Array | Tensor],
        state: ActState | None = None,
        deterministic: bool = False,
        *,
        sample: bool = True,
        generator: torch.Generator | None = None,
    ) -> tuple[np.ndarray[Any, np.dtype[np.float32]], ActState]:
        """Choose actions in N environments (SPEC 38; golden files 14).

        Args:
            observation: latest step of each environment, [N, …]: the environment's keys, and `is_first` where an
                episode begins, which resets that row of the state. Without `is_first` no row is reset. Images are
                uint8, vectors are floats; further keys are not read.
            state: returned by the previous call; None at the start.
            deterministic: take the actor's mode, as in evaluation. The latent state is sampled all the same.
            sample: False takes the mode of the latent state, and of the action, too.
            generator: source of the samples; None is the agent's own.

        Returns:
            Actions [N, A], one-hot or in [-1, 1], and the new state.

        Raises:
            ObservationError: if observation or state do not fit the agent's spaces. It is a `ValueError`, too.
        """
        player = self.player
        check_state(state, player.initial(0), check_observation(observation, self.spec, self._read))
        return player.act(observation, state, deterministic, sample=sample, generator=generator)

    def train_step(self, batch: Mapping[str, Array | Tensor], *, sample: bool = True) -> dict[str, Tensor]:
        """One update of world model, actor and critic (SPEC 23; golden files 13).

        First the world model learns from the batch. Then actor and critic learn from rollouts that start at every
        posterior of the batch, as computed before that update, and run in the world model after it. Where a loss or
        gradients are not finite, `updates/skipped` is 1, and what should have learned from them is as it was: all
        three if it is the world model's, actor or critic alone if it is theirs.

        Args:
            batch: sequences of raw steps, [T, B, …].
            sample: False takes the mode of every latent state and action; for comparisons.

        Returns:
            Metrics as scalar tensors on the agent's device, by name.
        """
        steps = self._receive(batch)
        numbers = self._scalars()
        metrics = self._graph(steps, numbers) if self._graph and sample else self._learn(steps, numbers, sample)
        self.behavior.update_target(self.critic_optimizer.updates - 1)
        self.updates += 1
        return metrics

    def train_world_model(self, batch: Mapping[str, Array | Tensor]) -> dict[str, Tensor]:
        """One update of the world model alone: the first half of `train_step`, and never a CUDA graph.

        Args:
            batch: sequences of raw steps, [T, B, …].

        Returns:
            The world model's metrics, as `train_step` names them.
        """
        steps = self._receive(batch)
        _, _, metrics = self._learn_world_model(steps, self._world_model_scalars())
        self.updates += 1
        return metrics

    def _receive(self, batch: Mapping[str, Array | Tensor]) -> dict[str, Tensor]:
        """A batch on the device; the carried state has its size."""
        steps = self.to_tensors(batch)
        size = steps["is_first"].shape[1]
        if self.carry is None or self.carry.deter.shape[0] != size:
            self._set_carry(self.world_model.rssm.initial((size,)))
        return steps

    def _set_carry(self, carry: State | None) -> None:
        self.carry = carry
        if self._graph:
            self._graph.forget()

    def _scalars(self) -> dict[str, float]:
        """All numbers of the next update that are not the same in every one; the optimizers count it."""
        rates = {"actor_lr": self.actor_optimizer, "critic_lr": self.critic_optimizer}
        behavior = self.behavior.scalars(self.agent_steps)
        return self._world_model_scalars() | _exact(behavior | self._advance(rates))

    def _world_model_scalars(self) -> dict[str, float]:
        """The same of an update of the world model alone."""
        model = self.world_model.scalars(self.agent_steps)
        return _exact(model | self._advance({"model_lr": self.model_optimizer}))

    def _advance(self, optimizers: dict[str, Optimizer]) -> dict[str, float]:
        return {name: optimizer.advance(self.agent_steps) for name, optimizer in optimizers.items()}

    def _learn(self, steps: dict[str, Tensor], scalars: Scalars, sample: bool = True) -> dict[str, Tensor]:
        """The arithmetic of an update.

        Weights, moments and the carried state change in place, and no value is looked at: what is recorded of one call
        can be repeated for all others of the same shapes.

        Returns:
            The metrics.
        """
        posterior, is_terminal, metrics = self._learn_world_model(steps, scalars, sample)
        start = posterior.map(lambda part: part.flatten(0, 1))
        # Where the model could not learn, its states are nothing to learn from either, though samples look sound.
        start = start._replace(deter=torch.where(metrics[SKIPPED] > 0, torch.nan, start.deter))
        learned = self._learn_behavior(start, is_terminal.flatten(), scalars, sample)
        return metrics | learned | {SKIPPED: torch.maximum(metrics[SKIPPED], learned[SKIPPED])}

    def _learn_world_model(
        self, steps: dict[str, Tensor], scalars: Scalars, sample: bool = True
    ) -> tuple[State, Tensor, dict[str, Tensor]]:
        """Update the world model.

        Returns:
            The posteriors from before the update and whether each step is terminal, [T, B, …], and the metrics.
        """
        model = self.world_model
        assert self.carry is not None
        if model.vector_norm is not None:
            model.vector_norm.update(steps)
        data = model.preprocess(steps)
        with self._autocast(), self._fusion:
            noise = model.rssm.latents.draw_noise(data["is_first"].shape, self.generator) if sample else None
            result = model.loss(data, self.carry, noise, scalars)
        norm, skipped = self.model_optimizer.step(result.loss, scalars["model_lr"])
        posterior = result.posterior.map(torch.Tensor.detach)
        for kept, new in zip(self.carry, posterior, strict=True):
            kept.copy_(torch.where(skipped.bool(), kept, new[-1]))
        metrics = {**result.metrics, "model/gradient_norm": norm, SKIPPED: skipped}
        return posterior, data["is_terminal"], metrics

    def _learn_behavior(self, start: State, is_terminal: Tensor, scalars: Scalars, sample: bool) -> dict[str, Tensor]:
        """Rollouts from these states, [N, …], and what actor and critic learn from them."""
        model, behavior = self.world_model, self.behavior
        with self._autocast(), self._fusion:
            noise = behavior.draw_noise(model, len(is_terminal), self.generator) if sample else None
            losses = behavior.loss(model, start, is_terminal, noise, scalars)
        actor = self.actor_optimizer.step(losses.actor, scalars["actor_lr"])
        critic = self.critic_optimizer.step(losses.critic, scalars["critic_lr"])
        return {
            **losses.metrics,
            "behavior/actor_gradient_norm": actor.norm,
            "behavior/critic_gradient_norm": critic.norm,
            SKIPPED: torch.maximum(actor.skipped, critic.skipped),
        }

    @torch.no_grad()
    def open_loop(
        self,
        batch: Mapping[str, Array | Tensor],
        context: int,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Images that the model predicts: filtered for `context` steps, then imagined without looking.

        Args:
            batch: sequences of raw steps, [T, B, …], T above `context`.
            context: steps for which the model sees the images.
            generator: source of the samples; None is the agent's acting generator.

        Returns:
            By image key, float images [T, B, 64, 64, C] in [0, 1].
        """
        generator = generator or self.act_generator
        rssm = self.world_model.rssm
        data = self.world_model.preprocess(self.to_tensors(batch))
        length, size = data["is_first"].shape
        with self._autocast():
            seen = {key: value[:context] for key, value in data.items()}
            noise = rssm.latents.draw_noise((length, size), generator)
            embed = self.world_model.encoder(seen)
            posterior, _ = rssm.observe(embed, seen["action"], seen["is_first"], noise=noise[:context])
            last = posterior.map(lambda part: part[-1])
            prior = rssm.imagine(data["action"][context:], last, noise[context:])
            feat = torch.cat([posterior.feat, prior.feat])
            images = self.world_model.decoder.images(feat)
        return {key: (image + 0.5).clamp(0, 1) for key, image in images.items()}

    def snapshot(self) -> Snapshot:
        """Everything that the agent is: weights, optimizers, generators, counters, configuration."""
        tensors = {
            "weights": dict(self.state_dict()),
            "generators": {name: torch_state(generator) for name, generator in self._generators().items()},
            "carry": {} if self.carry is None else self.carry._asdict(),
        }
        tensors |= {f"{name}_optimizer": optimizer.state_dict() for name, optimizer in self._optimizers().items()}
        state = {
            "config": to_dict(self.config),
            "spec": self.spec.to_json(),
            "updates": self.updates,
            "agent_steps": self.agent_steps,
            "optimizer_updates": {name: optimizer.updates for name, optimizer in self._optimizers().items()},
        }
        return Snapshot(tensors, state)

    def restore(self, snapshot: Snapshot) -> None:
        """Become what `snapshot` describes; the agent must have the same sizes.

        Raises:
            CheckpointError: if it has not.
        """
        try:
            self.load_state_dict(snapshot.tensors["weights"])
        except RuntimeError as error:
            raise CheckpointError(
                "The checkpoint's weights do not fit this agent; train it with the settings of the checkpoint's own "
                "configuration, or start a new run."
            ) from error
        for name, optimizer in self._optimizers().items():
            updates = operator.index(snapshot.state["optimizer_updates"][name])
            optimizer.load_state_dict(snapshot.tensors[f"{name}_optimizer"], updates)
        for name, generator in self._generators().items():
            restore_torch(generator, snapshot.tensors["generators"][name])
        carry = {name: part.to(self.device) for name, part in snapshot.tensors["carry"].items()}
        self._set_carry(State(**carry) if carry else None)
        self.updates = operator.index(snapshot.state["updates"])
        self.agent_steps = operator.index(snapshot.state["agent_steps"])

    def save(self, folder: Path | str) -> None:
        """Write the agent to a folder of its own, from which `Dreamer.load` and `reverie.load` read it.

        Raises:
            CheckpointError: if it cannot be written, or the folder holds something else.
        """
        write_checkpoint(Path(folder), self.agent_steps, self.snapshot())

    @classmethod
    def load(cls, folder: Path | str, device: str | None = None) -> Dreamer:
        """Read an agent from what `save` wrote, or from a checkpoint of a run.

        Args:
            folder: with `manifest.json` in it.
            device: where the agent goes; None takes what its configuration says.

        Raises:
            CheckpointError: if the folder is missing or damaged.
        """
        _, snapshot = read_checkpoint(Path(folder))
        with understood(folder):
            config, spec = from_dict(snapshot.state["config"]), EnvSpec.from_json(snapshot.state["spec"])
            _check_sizes(config, spec, snapshot.tensors["weights"])
            agent = cls(config, spec, device=device)
            agent.restore(snapshot)
        return agent

    def _optimizers(self) -> dict[str, Optimizer]:
        return {"model": self.model_optimizer, "actor": self.actor_optimizer, "critic": self.critic_optimizer}

    def _generators(self) -> dict[str, torch.Generator]:
        return {"learn": self.generator, "act": self.act_generator}

    def parameter_counts(self) -> dict[str, int]:
        """Trained parameters by module, their sum as `trained`, and the target critic's."""
        modules: dict[str, nn.Module] = {
            "encoder": self.world_model.encoder,
            "rssm": self.world_model.rssm,
            "decoder": self.world_model.decoder,
            "reward_head": self.world_model.reward_head,
            "actor": self.behavior.actor,
            "critic": self.behavior.critic,
        }
        if self.config.world_model.predict_discount:
            modules["discount_head"] = self.world_model.discount_head
        counts = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
        counts["trained"] = sum(counts.values())
        counts["target_critic"] = sum(p.numel() for p in self.behavior.target_critic.parameters())
        return counts
