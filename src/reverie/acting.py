"""Decisions: what an agent does with what it sees, and copies of an agent that can do nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reverie.behavior.networks import Actor
from reverie.config import Config
from reverie.networks.distributions import noisy_action
from reverie.spaces import Array, EnvSpec
from reverie.world_model import State, WorldModel

Observation = Mapping[str, Array | Tensor]


class ActState(NamedTuple):
    """What is remembered between two decisions in N environments."""

    latent: State
    """[N, …]"""
    action: Tensor
    """[N, A], the previous actions."""


def autocast(device: torch.device, config: Config) -> AbstractContextManager[Any]:
    """Where `training.precision` is bf16, matrix products and convolutions inside run in bfloat16 (SPEC 37)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.training.precision == "bf16")


def to_tensors(steps: Observation, device: torch.device) -> dict[str, Tensor]:
    """Arrays to tensors on a device; dtypes stay."""
    return {
        key: (value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))).to(
            device, non_blocking=True
        )
        for key, value in steps.items()
    }


class Player:
    """The part of an agent that decides: encoder and RSSM of its world model, and its actor.

    Args:
        model: of which encoder, RSSM and the scale of vectors are used.
        actor: the policy.
        config: the agent's.
        spec: the environment's observations and actions.
        generator: source of samples; the player runs on its device.
    """

    def __init__(
        self, model: WorldModel, actor: Actor, config: Config, spec: EnvSpec, generator: torch.Generator
    ) -> None:
        self.model, self.actor = model, actor
        self.config, self.spec = config, spec
        self.generator = generator

    def frozen(self) -> Player:
        """A copy with weights of its own, which stay as they are until `copy_from`; it draws from the same generator.

        Its weights are stored the way that a decision reads them, in the precision that it computes in: converting
        them anew takes up to a third of a decision's time.
        """
        model, actor = deepcopy((self.model, self.actor))
        for unused in ("decoder", "reward_head", "discount_head"):
            if hasattr(model, unused):
                delattr(model, unused)
        dtype = torch.bfloat16 if self.config.training.precision == "bf16" else torch.float32
        for layer in (*model.modules(), *actor.modules()):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                order = torch.channels_last if isinstance(layer, nn.Conv2d) else torch.contiguous_format
                layer.weight = nn.Parameter(layer.weight.detach().to(dtype, memory_format=order))
        model.requires_grad_(False)
        actor.requires_grad_(False)
        return Player(model, actor, self.config, self.spec, self.generator)

    @torch.no_grad()
    def copy_from(self, source: Player) -> None:
        """Take over another player's weights of this moment, into the memory that this one's are in."""
        mine, theirs = self.tensors(), source.tensors()
        torch._foreach_copy_(list(mine.values()), [theirs[name] for name in mine])

    def tensors(self) -> dict[str, Tensor]:
        """Weights and statistics, by name."""
        parts = nn.ModuleDict({"model": self.model, "actor": self.actor})
        return {**dict(parts.named_parameters()), **dict(parts.named_buffers())}

    @torch.no_grad()
    def act(
        self,
        observation: Observation,
        state: ActState | None = None,
        deterministic: bool = False,
        *,
        sample: bool = True,
        generator: torch.Generator | None = None,
    ) -> tuple[NDArray[np.float32], ActState]:
        """Choose actions in N environments; see `Dreamer.act`."""
        generator = generator or self.generator
        model, actor = self.model, self.actor
        device = generator.device
        keys = [*self.spec.observations, "is_first"]
        steps = model.preprocess(to_tensors({key: observation[key] for key in keys if key in observation}, device))
        count = next(iter(steps.values())).shape[0]
        is_first = steps.get("is_first", torch.zeros(count, dtype=torch.bool, device=device))
        if state is None:
            latent = model.rssm.initial((count,)).map(torch.Tensor.float)
            state = ActState(latent, latent.deter.new_zeros((count, self.spec.action.size)))
        with autocast(device, self.config):
            noise = model.rssm.latents.draw_noise((count,), generator) if sample else None
            latent = model.rssm.observe_step(state.latent, state.action, model.encoder(steps), is_first, noise)
            policy = actor(latent.feat)
        if deterministic or not sample:
            action = policy.sample(None)
        else:
            action = policy.sample(actor.draw_noise((count,), generator))
            sizes = self.spec.action.sizes if self.spec.action.kind == "discrete" else None
            action = noisy_action(action, self.config.behavior.actor.exploration_noise, sizes, generator)
        return action.float().cpu().numpy(), ActState(latent, action)
