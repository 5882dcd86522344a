"""Agents on the meta device, where tensors have shapes and no values, in place of a GPU that is recorded."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reverie.config import Config
from reverie.dreamer import Dreamer
from reverie.dreamer.optimizer import Optimizer
from reverie.kernels.adam import FusedAdam
from reverie.specs import EnvSpec


class HostAccessError(RuntimeError):
    """An operation reads a tensor in the host's memory."""


class NoHostAccess(TorchDispatchMode):
    """Raise where an operation reads host memory; skip the fused optimizer, which the meta device does not have.

    Operations that need a tensor's value raise by themselves on the meta device.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(tensor.device.type != "meta" for tensor in tensors) or func is torch.ops.aten.lift_fresh.default:
            raise HostAccessError(f"{func} reads host memory")
        if "_fused_adam_" in str(func):
            return None
        return func(*args, **(kwargs or {}))


def make_meta_agent(config: Config, spec: EnvSpec, monkeypatch: pytest.MonkeyPatch) -> Dreamer:
    """Return an agent with fused optimizers on the meta device, which has neither generators nor autocast."""

    def draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand(shape, device="meta")

    for module in ("latents", "heads"):
        monkeypatch.setattr(f"reverie.dreamer.{module}.draw_uniform", draw)
        monkeypatch.setattr(f"reverie.dreamer.{module}.draw_normal", draw)
    agent = Dreamer(config, spec, seed=0).to("meta")
    agent.device = torch.device("meta")
    monkeypatch.setattr(agent, "autocast", nullcontext)
    parts = {"model": agent.world_model, "actor": agent.actor_critic.actor, "critic": agent.actor_critic.critic}
    for name, part in parts.items():
        optimizer = Optimizer([part], getattr(agent, f"{name}_optimizer").config)
        optimizer.__class__ = FusedAdam
        setattr(agent, f"{name}_optimizer", optimizer)
    return agent


@contextmanager
def raises_on_host() -> Iterator[None]:
    """Expect the error of an operation that needs a value."""
    with pytest.raises(RuntimeError, match=r"[Mm]eta|host"):
        yield
