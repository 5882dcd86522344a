"""Rollouts that are not differentiated, with one-hot states and actions given by the positions of their ones."""

import torch
from torch import Tensor, nn

from reverie.dreamer.actor_critic import ActorCritic
from reverie.dreamer.heads import Actor
from reverie.dreamer.imagination import ImaginationNoise, Trajectory, make_trajectory
from reverie.dreamer.latents import Categorical
from reverie.dreamer.layers import MLP, Dense
from reverie.dreamer.rssm import RSSM, State
from reverie.dreamer.world_model import WorldModel
from reverie.kernels import operations as ops
from reverie.kernels.dense import FastDense, FastMLP
from reverie.kernels.features import HiddenLayers, SparseFeatures, is_one_hot, one_hot, one_hot_index, versions
from reverie.kernels.filtering import FastRSSM
from reverie.kernels.replaced import is_plain


class FastActorCritic(ActorCritic):
    """`ActorCritic` of discrete actions that imagines with sparse features where nothing is differentiated."""

    @staticmethod
    def is_applicable(actor_critic: ActorCritic, rssm: RSSM) -> bool:
        """Return whether an actor-critic can be of this class together with an RSSM."""
        actor = actor_critic.actor
        return (
            actor.spec.kind == "discrete"
            and actor_critic.config.actor.layers > 0
            and is_plain(actor, Actor)
            and is_plain(actor.head, nn.Linear)
            and is_plain(actor.body, MLP, FastMLP)
            and all(FastDense.is_applicable(layer) for layer in actor.body)
            and FastRSSM.is_applicable(rssm)
        )

    def imagine(
        self, model: WorldModel, start: State, is_terminal: Tensor, noise: ImaginationNoise | None
    ) -> Trajectory:
        """Roll out the actor from every start state, see `ActorCritic.imagine`."""
        is_supported = not torch.is_grad_enabled() and ops.is_supported(start.deter, self.actor.head.bias)
        if not is_supported or not is_one_hot(start.stoch, model.rssm.latents.stats_shape[0]):
            return super().imagine(model, start, is_terminal, noise)
        start = start.map(torch.Tensor.contiguous)
        noise = None if noise is None else ImaginationNoise(*(part.float().contiguous() for part in noise))
        feat, action = imagine_features(model.rssm, self.actor, start, self.config.horizon, noise)
        return make_trajectory(model, feat, action, is_terminal)


def imagine_features(
    rssm: RSSM, actor: Actor, start: State, horizon: int, noise: ImaginationNoise | None
) -> tuple[SparseFeatures, Tensor]:
    """Return features [H + 1, N, F] and actions [H + 1, N, A], as `imagination.imagine_states` does."""
    assert isinstance(rssm.latents, Categorical)
    variables, classes = rssm.latents.stats_shape
    state, size, width = start.deter.float(), rssm.deter_size, rssm.latents.size
    dtype, number, sizes = ops.compute_dtype(start.deter), len(start.deter), actor.spec.sizes
    index = torch.empty((horizon + 1, number, variables), dtype=torch.int32)
    deter = torch.empty((horizon + 1, number, size), dtype=dtype)
    chosen = torch.empty((horizon, number, len(sizes)), dtype=torch.int32)
    index[0], deter[0] = one_hot_index(start.stoch, variables), state
    layers = [layer.linear for layer in actor.body if isinstance(layer, Dense)]
    hidden = [torch.empty((horizon, number, layer.out_features), dtype=dtype) for layer in layers]

    transition, gates, norm = rssm.input_layer.linear, rssm.cell.linear, rssm.cell.norm
    assert isinstance(norm, torch.nn.LayerNorm)
    joined = torch.empty((number, transition.out_features + size), dtype=dtype)  # input of the gates
    rows = ops.table(transition.weight, transition.in_features, dtype)
    for t in range(horizon):
        draws = None if noise is None else noise.action[t]
        for depth, layer in enumerate(layers):
            if depth == 0:
                x = ops.feature_dense(index[t], deter[t], layer.weight, layer.bias)
            else:
                x = ops.bias_elu_(ops.product(x, ops.cast(layer.weight, dtype)), layer.bias)
            hidden[depth][t] = x
        _sample_actions(actor, x, draws, chosen[t])
        ops.one_hot_elu(torch.cat([index[t], chosen[t] + width], 1), rows, None, transition.bias, joined)
        joined[:, transition.out_features :] = deter[t]
        pre = ops.product(joined, ops.cast(gates.weight, dtype))
        state = ops.gru(pre, gates.bias, norm, state, deter[t + 1])
        prior = rssm.prior_layer.linear
        x = ops.bias_elu_(ops.product(deter[t + 1], ops.cast(prior.weight, dtype)), prior.bias)
        logits = ops.product(x, ops.cast(rssm.prior_head.weight, dtype))
        draws = None if noise is None else noise.latent[t]
        ops.sample_one_hot(logits, rssm.prior_head.bias, draws, classes, index[t + 1])
    action = torch.zeros((horizon + 1, number, sum(sizes)))
    action[1:] = one_hot(chosen, sum(sizes))
    known = HiddenLayers(actor.body, versions(actor.body), hidden)
    return SparseFeatures(index, deter, width, known), action


def _sample_actions(actor: Actor, hidden: Tensor, noise: Tensor | None, out: Tensor) -> None:
    """Write the positions of the ones [N, V] of V concatenated actions."""
    logits = ops.product(hidden, ops.cast(actor.head.weight, hidden.dtype))
    offset = 0
    for variable, classes in enumerate(actor.spec.sizes):
        part = slice(offset, offset + classes)
        column = torch.empty((len(hidden), 1), dtype=torch.int32)
        draws = None if noise is None else noise[:, variable, None].contiguous()
        ops.sample_one_hot(logits[:, part].contiguous(), actor.head.bias[part], draws, classes, column)
        out[:, variable] = column[:, 0] + offset
        offset += classes
