"""Replacement of a class by a fast one, unless the fast one computes something else.

An equation changed in `reverie.dreamer` takes effect: a kernel that does not agree with it is not used.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reverie.dreamer.actor_critic import ActorCritic
from reverie.dreamer.encoder_decoder import ConvLayer
from reverie.dreamer.layers import Dense
from reverie.dreamer.optimizer import Optimizer
from reverie.dreamer.rssm import RSSM
from reverie.dreamer.world_model import WorldModel

TOLERANCE = 1e-3
"""Largest difference of two results in float32, as a share of the largest entry."""
SEEDS = range(3)
"""A draw may fall on either side of a rounding error; three sets of draws do not."""

Results = Callable[[torch.Generator], Sequence[Tensor]]


def swap(target: Any, fast: type, results: Results) -> None:
    """Give an object a fast class, or warn and leave it as it is if its results would change.

    Args:
        target: a module or an optimizer.
        fast: a subclass of its class.
        results: computes something with the object, from random inputs.
    """
    plain = type(target)
    for seed in SEEDS:
        expected, actual = (_as(target, kind, results, seed) for kind in (plain, fast))
        if len(expected) == len(actual) and all(map(_agree, expected, actual)):
            target.__class__ = fast
            return
    warnings.warn(
        f"{plain.__name__} no longer computes what {fast.__name__} does. The kernel is not used, and updates take "
        f"longer. Change {fast.__module__}, too, or set REVERIE_KERNELS to other kernels to hide this warning.",
        stacklevel=3,
    )


def _as(target: Any, kind: type, results: Results, seed: int) -> Sequence[Tensor]:
    plain, target.__class__ = type(target), kind
    try:
        return results(torch.Generator().manual_seed(seed))
    finally:
        target.__class__ = plain


def _agree(expected: Tensor, actual: Tensor) -> bool:
    if expected.shape != actual.shape:
        return False
    return bool((expected - actual).abs().max() <= TOLERANCE * expected.abs().max())


def _with_gradients(outputs: Sequence[Tensor], leaves: Iterable[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Return outputs, and gradients of a random function of them."""
    loss = sum((output * torch.randn(output.shape, generator=generator)).sum() for output in outputs)
    assert isinstance(loss, Tensor)
    trained = [leaf for leaf in leaves if leaf.requires_grad]
    return [*(output.detach() for output in outputs), *torch.autograd.grad(loss, trained)]


def layer_results(layer: Dense | ConvLayer, size: tuple[int, ...]) -> Results:
    """Return results of a layer for an input of a size."""

    def results(generator: torch.Generator) -> list[Tensor]:
        x = torch.randn(size, generator=generator, requires_grad=True)
        return _with_gradients([layer(x)], [x, *layer.parameters()], generator)

    return results


def rssm_results(rssm: RSSM) -> Results:
    """Return results of `RSSM.observe`, two steps of two sequences."""

    def results(generator: torch.Generator) -> list[Tensor]:
        inputs, units = rssm.posterior_layer.linear.in_features, rssm.input_layer.linear.in_features
        embed = torch.randn((2, 2, inputs - rssm.deter_size), generator=generator, requires_grad=True)
        action = torch.randn((2, 2, units - rssm.latents.size), generator=generator)
        is_first = torch.tensor([[True, False], [False, False]])
        noise = rssm.latents.draw_noise((2, 2), generator)
        posterior = rssm.observe(embed, action, is_first, None, noise)
        unused = [*rssm.prior_layer.parameters(), *rssm.prior_head.parameters()]
        leaves = [p for p in rssm.parameters() if not any(p is other for other in unused)]
        return _with_gradients(posterior, [embed, *leaves], generator)

    return results


def actor_critic_results(actor_critic: ActorCritic, model: WorldModel) -> Results:
    """Return results of `ActorCritic.imagine` from two states, and the hidden layer of the actor."""

    @torch.no_grad()
    def results(generator: torch.Generator) -> list[Tensor]:
        action = torch.zeros((2, actor_critic.actor.spec.size))
        start = model.rssm.imagine_step(
            model.rssm.initial((2,)), action, model.rssm.latents.draw_noise((2,), generator)
        )
        noise = actor_critic.draw_noise(model, 2, generator)
        trajectory = actor_critic.imagine(model, start, torch.tensor([False, True]), noise)
        hidden = actor_critic.actor.body(trajectory.feat[:-1])
        return [1.0 * part for part in (*trajectory, hidden)]

    return results


def optimizer_results(optimizer: Optimizer) -> Results:
    """Return the results of two steps of an optimizer of the same class and configuration."""

    def results(generator: torch.Generator) -> list[Tensor]:
        layer = nn.Linear(3, 2, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        own = Optimizer([layer], optimizer.config)
        own.__class__ = type(optimizer)
        for _ in range(2):
            x = torch.randn((4, 3), generator=generator)
            own.step(layer(x).square().sum(), 0.1)
        return [*(parameter.detach() for parameter in layer.parameters()), *own.exp_avg, *own.exp_avg_sq]

    return results
