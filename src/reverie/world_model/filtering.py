"""`RSSM.observe` by the fast path, where it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from reverie.fast.features import one_hot_index
from reverie.fast.observe import Layers, Sequences
from reverie.fast.observe import observe as fast_observe
from reverie.fast.operations import serves as fast_serves
from reverie.networks.layers import LayerNorm
from reverie.world_model.latents import Categorical

if TYPE_CHECKING:
    from reverie.world_model.rssm import RSSM, State


def serves(rssm: RSSM, embed: Tensor, action: Tensor, state: State) -> bool:
    """Whether `observe` can take these networks and tensors."""
    return (
        fast_serves(embed)
        and isinstance(rssm.latents, Categorical)
        and isinstance(rssm.cell.norm, LayerNorm)
        and not isinstance(rssm.input_layer.norm, LayerNorm)
        and not (action.requires_grad or any(part.requires_grad for part in state))
    )


def observe(
    rssm: RSSM, embed: Tensor, action: Tensor, is_first: Tensor, state: State, noise: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Parts of the posterior states [T, B, …]; arguments as for `RSSM.observe`."""
    assert isinstance(rssm.latents, Categorical) and isinstance(rssm.cell.norm, LayerNorm)
    layers = Layers(
        rssm.input_layer.linear, rssm.cell.linear, rssm.cell.norm, rssm.posterior_layer.linear, rssm.posterior_head
    )
    variables, classes = rssm.latents.stats_shape
    is_zero = (state.stoch == 0).unflatten(-1, (variables, classes)).all(-1)
    index = one_hot_index(state.stoch, (classes,) * variables).masked_fill(is_zero, -1)
    keep = ~is_first
    sequences = Sequences(action * keep[..., None], keep, index, state.deter.float(), noise, classes)
    return fast_observe(layers, embed, sequences)
