"""Filtering of a batch of sequences as one function, forward and backward.

The recursion is that of `RSSM.observe`, for categorical latents. A step contains only what depends on the step before:
products with embeddings and actions are computed first, for all steps at once, and gradients of weights last, as one
product each instead of one for every step.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from reverie.dreamer.latents import Categorical
from reverie.dreamer.layers import LAYER_NORM_EPS, LayerNorm
from reverie.dreamer.rssm import RSSM, GRUCell, State
from reverie.kernels import operations as ops
from reverie.kernels.dense import FastDense
from reverie.kernels.features import is_one_hot, one_hot, one_hot_index
from reverie.kernels.replaced import is_plain


class FastRSSM(RSSM):
    """`RSSM` with categorical latents, layer norm in the GRU and none elsewhere, that filters in one function."""

    @staticmethod
    def is_applicable(rssm: RSSM) -> bool:
        """Return whether an RSSM can be of this class."""
        layers = (rssm.input_layer, rssm.prior_layer, rssm.posterior_layer)
        heads, norm = (rssm.prior_head, rssm.posterior_head, rssm.cell.linear), rssm.cell.norm
        return (
            type(rssm.latents) is Categorical
            and is_plain(rssm, RSSM, FastRSSM)
            and is_plain(rssm.cell, GRUCell)
            and isinstance(norm, LayerNorm)
            and is_plain(norm, LayerNorm)
            and norm.eps == LAYER_NORM_EPS
            and all(FastDense.is_applicable(layer) for layer in layers)
            and all(is_plain(head, nn.Linear) for head in heads)
        )

    def observe(
        self, embed: Tensor, action: Tensor, is_first: Tensor, state: State | None = None, noise: Tensor | None = None
    ) -> State:
        """Filter a batch of sequences, see `RSSM.observe`."""
        num_steps, batch = is_first.shape
        state = self.initial((batch,)) if state is None else state
        has_gradient = torch.is_grad_enabled()
        constants = (action, *state)
        if (
            not ops.is_supported(embed, self.prior_head.bias)
            or (num_steps == 1 and not has_gradient)
            or (has_gradient and any(tensor.requires_grad for tensor in constants))
            or not is_one_hot(state.stoch, self.latents.stats_shape[0], or_zero=True)
        ):
            return super().observe(embed, action, is_first, state, noise)
        assert isinstance(self.latents, Categorical)
        variables, classes = self.latents.stats_shape
        is_zero = (state.stoch == 0).unflatten(-1, (variables, classes)).all(-1)
        ones = one_hot_index(state.stoch, variables).masked_fill(is_zero, -1)
        keep = ~is_first
        deter, noise = state.deter.float().contiguous(), None if noise is None else noise.float().contiguous()
        sequences = _Sequences(action * keep[..., None], keep, ones, deter, noise, classes)
        layers = _Layers(self)
        function: Any = _Observe.apply
        return State(*function(layers, sequences, embed, *layers.parameters()))


class _Layers:
    """Layers of the posterior's recursion in the order of their application."""

    def __init__(self, rssm: RSSM) -> None:
        self.input = rssm.input_layer.linear
        self.gates = rssm.cell.linear
        self.norm: Any = rssm.cell.norm
        self.posterior = rssm.posterior_layer.linear
        self.posterior_head = rssm.posterior_head

    def parameters(self) -> list[Tensor]:
        layers: list[nn.Linear] = [self.input, self.gates, self.norm, self.posterior, self.posterior_head]
        return [parameter for layer in layers for parameter in (layer.weight, layer.bias)]

    def gates_weight(self, dtype: torch.dtype) -> Tensor:
        return ops.cast(self.gates.weight, dtype)

    def deter_weight(self, dtype: torch.dtype) -> Tensor:
        """Return the columns of the posterior layer that read the deterministic state."""
        return ops.columns(self.posterior.weight, slice(self.gates.out_features // 3), dtype)

    def embed_weight(self, dtype: torch.dtype) -> Tensor:
        """Return the columns of the posterior layer that read the embedding."""
        return ops.columns(self.posterior.weight, slice(self.gates.out_features // 3, None), dtype)


class _Sequences(NamedTuple):
    """Inputs without gradient."""

    action: Tensor
    """[T, B, A], zero where an episode starts."""
    keep: Tensor
    """[T, B] bool, False where an episode starts."""
    ones: Tensor
    """[B, S] int32, positions of the ones of the stochastic state before the first step; -1 for a vector of zeros."""
    deter: Tensor
    """[B, D] float32, the deterministic state before the first step."""
    noise: Tensor | None
    """[T, B, S] uniform; None takes modes."""
    classes: int
    """K."""


class _Observe(torch.autograd.Function):
    """Return deterministic states [T, B, D], samples [T, B, Z] and logits [T, B, S, K], all in float32.

    Gradients flow into the embeddings and the layers' parameters, which are arguments for this reason alone.
    """

    @staticmethod
    def forward(
        ctx: Any, layers: _Layers, sequences: _Sequences, embed: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        action, keep, index_before, deter_before, noise, classes = sequences
        dtype = ops.compute_dtype(embed)
        (steps, batch, _), size, units = embed.shape, deter_before.shape[1], layers.input.out_features
        (variables,) = index_before.shape[1:]
        width = variables * classes
        embed_rows = embed.detach().to(dtype).flatten(0, 1)
        action_rows = action.to(dtype).flatten(0, 1)
        from_embed = ops.product(embed_rows, layers.embed_weight(dtype)).view(steps, batch, -1)
        action_weight = ops.columns(layers.input.weight, slice(width, None), dtype)
        from_action = ops.product(action_rows, action_weight).view(steps, batch, units)
        rows = ops.table(layers.input.weight, width, dtype)
        gates_weight, deter_weight = layers.gates_weight(dtype), layers.deter_weight(dtype)
        head_weight = ops.cast(layers.posterior_head.weight, dtype)

        before = torch.empty((steps, batch, variables), dtype=torch.int32)
        index = torch.empty((steps, batch, variables), dtype=torch.int32)
        state_before = torch.empty((steps, batch, size))
        joined = torch.empty((steps, batch, units + size), dtype=dtype)
        gates = torch.empty((steps, batch, 3 * size), dtype=dtype)
        deter = torch.empty((steps, batch, size))
        deter_rows = torch.empty((steps, batch, size), dtype=dtype)
        hidden = torch.empty((steps, batch, layers.posterior.out_features), dtype=dtype)
        logits = torch.empty((steps, batch, width), dtype=dtype)
        kept = keep[..., None].float()
        last_index, last_deter = index_before, deter_before
        for t in range(steps):
            before[t] = torch.where(keep[t, :, None], last_index, -1)
            torch.mul(last_deter, kept[t], out=state_before[t])
            ops.one_hot_elu(before[t], rows, from_action[t], layers.input.bias, joined[t])
            joined[t, :, units:] = state_before[t]
            torch.mm(joined[t], gates_weight.T, out=gates[t])
            last_deter = ops.gru(gates[t], layers.gates.bias, layers.norm, state_before[t], deter_rows[t])
            deter[t] = last_deter
            torch.addmm(from_embed[t], deter_rows[t], deter_weight.T, out=hidden[t])
            ops.bias_elu_(hidden[t], layers.posterior.bias)
            torch.mm(hidden[t], head_weight.T, out=logits[t])
            draws = None if noise is None else noise[t]
            ops.sample_one_hot(logits[t], layers.posterior_head.bias, draws, classes, index[t])
            last_index = index[t]
        stats = (logits.float() + layers.posterior_head.bias.detach()).unflatten(-1, (variables, classes))
        ctx.layers = layers
        ctx.embed_dtype = embed.dtype
        ctx.save_for_backward(
            embed_rows, action_rows, kept, before, state_before, joined, gates, deter_rows, hidden, stats, *parameters
        )
        return deter, one_hot(index, width), stats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, deter_grad: Tensor, stoch_grad: Tensor, stats_grad: Tensor) -> tuple[Any, ...]:
        layers: _Layers = ctx.layers
        embed, action, kept, before, state_before, joined, gates, deter, hidden, stats, *_ = ctx.saved_tensors
        steps, batch, variables, classes = stats.shape
        size, units, width, dtype = deter.shape[2], layers.input.out_features, variables * classes, gates.dtype
        gates_weight, deter_weight = layers.gates_weight(dtype), layers.deter_weight(dtype)
        head_weight = ops.cast(layers.posterior_head.weight, dtype)
        stoch_weight = ops.table(layers.input.weight, width, dtype)
        probs = stats.softmax(-1)
        deter_grad, stoch_grad, stats_grad = (grad.contiguous() for grad in (deter_grad, stoch_grad, stats_grad))

        logits_grad = torch.empty((steps, batch, width), dtype=dtype)
        hidden_grad, input_grad = torch.empty_like(hidden), torch.empty((steps, batch, units), dtype=dtype)
        gates_grad, norm_grad = torch.empty_like(gates), torch.zeros((2, 3 * size))
        hidden_bias_grad, input_bias_grad = torch.zeros(hidden.shape[2]), torch.zeros(units)
        from_deter, from_stoch = torch.zeros_like(state_before[0]), torch.zeros((batch, width))
        for t in reversed(range(steps)):
            ops.straight_through_backward(probs[t], stoch_grad[t] + from_stoch, stats_grad[t], logits_grad[t])
            grad, bias_grad = ops.bias_elu_backward(logits_grad[t] @ head_weight, hidden[t])
            hidden_grad[t] = grad
            hidden_bias_grad += bias_grad
            grad = (grad @ deter_weight).float() + deter_grad[t] + from_deter
            arguments = (gates[t], layers.gates.bias, layers.norm, state_before[t], grad, gates_grad[t], norm_grad)
            from_deter = ops.gru_backward(*arguments)
            grad = gates_grad[t] @ gates_weight
            from_deter = (from_deter + grad[:, units:]) * kept[t]
            grad, bias_grad = ops.bias_elu_backward(grad[:, :units], joined[t, :, :units].contiguous())
            input_grad[t] = grad
            input_bias_grad += bias_grad
            from_stoch = (grad @ stoch_weight.T).float() * kept[t]

        logits_rows, hidden_rows, gates_rows, input_rows = (
            grad.flatten(0, 1) for grad in (logits_grad, hidden_grad, gates_grad, input_grad)
        )
        posterior_grad = torch.cat([hidden_rows.T @ deter.flatten(0, 1), hidden_rows.T @ embed], 1)
        stoch_part = ops.one_hot_grad(before.flatten(0, 1), input_rows, width).T
        embed_grad = None
        if ctx.needs_input_grad[2]:
            embed_grad = (hidden_rows @ layers.embed_weight(dtype)).view(steps, batch, -1).to(ctx.embed_dtype)
        return (
            None,
            None,
            embed_grad,
            torch.cat([stoch_part, (input_rows.T @ action).float()], 1),
            input_bias_grad,
            (gates_rows.T @ joined.flatten(0, 1)).float(),
            gates_rows.sum(0, dtype=torch.float32),
            *norm_grad,
            posterior_grad.float(),
            hidden_bias_grad,
            (logits_rows.T @ hidden.flatten(0, 1)).float(),
            logits_rows.sum(0, dtype=torch.float32),
        )
