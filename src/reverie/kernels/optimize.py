"""Choice and installation of kernels."""

import os
import warnings
from collections.abc import Collection
from typing import TypeVar

import torch
from torch import nn

from reverie.config import ConfigError
from reverie.dreamer.actor_critic import ActorCritic
from reverie.dreamer.agent import Dreamer
from reverie.dreamer.encoder_decoder import ConvLayer
from reverie.dreamer.layers import MLP, Dense
from reverie.dreamer.optimizer import Optimizer
from reverie.dreamer.recurrent_policy import RecurrentPolicy
from reverie.dreamer.rssm import RSSM
from reverie.dreamer.world_model import WorldModel
from reverie.kernels import library
from reverie.kernels.adam import FusedAdam
from reverie.kernels.compiled import CompiledRSSM, can_compile
from reverie.kernels.convolutions import FastConvLayer
from reverie.kernels.cuda_graphs import graphed, has_plain_update
from reverie.kernels.dense import FastDense, FastMLP
from reverie.kernels.filtering import FastRSSM
from reverie.kernels.imagination import FastActorCritic
from reverie.kernels.policy import store_weights
from reverie.kernels.replaced import changed, is_plain

VARIABLE = "REVERIE_KERNELS"
"""Environment variable: 0 switches all kernels off, names separated by commas choose some."""
NAMES = {
    "filtering": "RSSM.observe as one function, on a CPU",
    "imagination": "ActorCritic.imagine with sparse features, on a CPU",
    "dense": "dense layers with bias and ELU in one pass, on a CPU",
    "convolutions": "convolutions with bias and ELU, in bfloat16 by own loops, on a CPU",
    "adam": "the optimizer's step as one kernel",
    "policy": "a policy's weights in the precision of its products",
    "graphs": "an update as one CUDA graph (experimental)",
    "compile": "RSSM steps through torch.compile, on CUDA (experimental)",
}
"""Kernels, and what each replaces."""

ON_CPU = frozenset({"filtering", "imagination", "dense", "convolutions"})
"""Kernels of the compiled library."""

T = TypeVar("T", bound=nn.Module | Optimizer)


def optimize(target: T, only: Collection[str] | None = None) -> T:
    """Convert an agent or a part of one in place, so that it computes the same in less time.

    Modules and optimizers get a subclass of their class that overrides a method. Parameters and their names stay. What
    a kernel does not support stays plain: layer norms, latents that are not categorical, subclasses of the plain
    modules, modules with hooks, and everything on a CPU where there is no C compiler. Nor is a kernel used whose plain
    code was changed; a warning says so.

    Args:
        target: an agent, whose `recurrent_policy` is converted with it; a module or an optimizer; or a clone of a
            policy, whose weights are stored in the precision of its products.
        only: names of the kernels to use, see `NAMES`; None takes those of the variable REVERIE_KERNELS, or all.

    Returns:
        The same object.

    Raises:
        ConfigError: if a name is unknown.
    """
    names = _unchanged(_selected(only))
    if isinstance(target, Optimizer):
        _convert_optimizer(target, names)
        return target
    device = next((parameter.device for parameter in target.parameters()), torch.device("meta"))
    if device.type == "cpu" and names & ON_CPU and library.load() is not None:
        _convert_cpu(target, names)
    if isinstance(target, Dreamer):
        training = target.config.training
        names -= {*([] if training.cuda_graphs else ["graphs"]), *([] if training.compile == "auto" else ["compile"])}
        if device.type == "cuda":
            names = _convert_cuda(target, names)
        for optimizer in target.optimizers.values():
            _convert_optimizer(optimizer, names)
    if isinstance(target, RecurrentPolicy) and "policy" in names:
        store_weights(target)
    return target


def compiles(agent: Dreamer) -> bool:
    """Return whether the agent's first update takes a minute longer, because it compiles."""
    return isinstance(agent.world_model.rssm, CompiledRSSM)


def _selected(only: Collection[str] | None) -> frozenset[str]:
    source = "only"
    if only is None:
        text = os.environ.get(VARIABLE, "").strip()
        if text == "0":
            return frozenset()
        only = [name.strip() for name in text.split(",") if name.strip()] or list(NAMES)
        source = VARIABLE
    only = [only] if isinstance(only, str) else only
    unknown = sorted(set(only) - set(NAMES))
    if unknown:
        raise ConfigError(f"{source} names '{unknown[0]}', which is not a kernel. Use some of {', '.join(NAMES)}.")
    return frozenset(only)


def _unchanged(names: frozenset[str]) -> frozenset[str]:
    """Return the kernels whose plain code is what they compute, with a warning for each of the others."""
    differing = {name: found for name in sorted(names) if (found := changed(name))}
    for name, found in differing.items():
        warnings.warn(
            f"The kernel {name} is not used, because {' and '.join(found)} in reverie.dreamer changed. Updates take "
            f"longer. Change the kernel, too (kernels/replaced.py), or leave it out of {VARIABLE}.",
            stacklevel=4,
        )
    return names.difference(differing)


def _convert_cpu(target: nn.Module, names: frozenset[str]) -> None:
    for part in target.modules():
        if any(parameter.dtype != torch.float32 for parameter in part.parameters()):
            continue
        if "filtering" in names and type(part) is RSSM and FastRSSM.is_applicable(part):
            part.__class__ = FastRSSM
        elif "dense" in names and is_plain(part, MLP):
            part.__class__ = FastMLP
        elif "dense" in names and type(part) is Dense and FastDense.is_applicable(part):
            part.__class__ = FastDense
        elif "convolutions" in names and type(part) is ConvLayer and FastConvLayer.is_applicable(part):
            part.__class__ = FastConvLayer
    model = next((part for part in target.modules() if isinstance(part, WorldModel)), None)
    if "imagination" not in names or model is None:
        return
    for part in target.modules():
        if type(part) is ActorCritic and FastActorCritic.is_applicable(part, model.rssm):
            part.__class__ = FastActorCritic


def _convert_cuda(agent: Dreamer, names: frozenset[str]) -> frozenset[str]:
    rssm = agent.world_model.rssm
    if "compile" in names and can_compile(agent.device) and type(rssm) is RSSM:
        rssm.__class__ = CompiledRSSM
    if "graphs" in names and has_plain_update(type(agent)):
        agent.__class__ = graphed(type(agent))
        return names | {"adam"}  # The plain step reads values, which a graph cannot.
    return names


def _convert_optimizer(optimizer: Optimizer, names: frozenset[str]) -> None:
    if "adam" in names and type(optimizer) is Optimizer:
        optimizer.__class__ = FusedAdam
