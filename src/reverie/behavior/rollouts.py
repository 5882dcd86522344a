"""Rollouts in the world model without gradients, by the fast path."""

import torch
from torch import Tensor

from reverie.behavior.networks import Actor
from reverie.fast.features import Features, one_hot_index
from reverie.fast.operations import serves as fast_serves
from reverie.fast.rollout import Policy, Recurrence, rollout
from reverie.networks.layers import Dense, LayerNorm
from reverie.world_model import State
from reverie.world_model.latents import Categorical
from reverie.world_model.rssm import RSSM


def serve(rssm: RSSM, actor: Actor, like: Tensor) -> bool:
    """Whether `imagine` can take these networks, on the device and in the dtype of `like`."""
    return (
        fast_serves(like)
        and not torch.is_grad_enabled()
        and isinstance(rssm.latents, Categorical)
        and isinstance(rssm.cell.norm, LayerNorm)
        and not isinstance(rssm.input_layer.norm, LayerNorm)
        and actor.spec.kind == "discrete"
        and actor.body.reads_features
    )


def imagine(
    rssm: RSSM, actor: Actor, start: State, horizon: int, latent_noise: Tensor | None, action_noise: Tensor | None
) -> tuple[Features, Tensor, list[Tensor]]:
    """Features [H+1, N, …] and actions [H+1, N, A], as `imagination.imagine_states` computes them.

    And the actor's hidden layers in the first H states.
    """
    assert isinstance(rssm.latents, Categorical) and isinstance(rssm.cell.norm, LayerNorm)
    variables, classes = rssm.latents.stats_shape
    recurrence = Recurrence(
        rssm.input_layer.linear, rssm.cell.linear, rssm.cell.norm, rssm.prior_layer.linear, rssm.prior_head
    )
    policy = Policy([layer.linear for layer in actor.body if isinstance(layer, Dense)], actor.head, actor.spec.sizes)
    features = Features(one_hot_index(start.stoch, (classes,) * variables), start.deter, rssm.latents.size)
    return rollout(recurrence, policy, features, classes, horizon, latent_noise, action_noise)
