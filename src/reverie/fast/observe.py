"""Filtering of a batch of sequences by the RSSM as one function, forward and backward, on a CPU.

The same recursion as `RSSM.observe`, for one-hot states. Step by step it does only what depends on the step before:
products with embeddings and actions come first, for all steps at once; weight gradients come last, one product each
instead of one for every step.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from reverie.fast import operations as fast
from reverie.fast.features import one_hot


class Layers(NamedTuple):
    """The layers of the posterior's recursion, in the order in which they are applied."""

    transition: nn.Linear
    gates: nn.Linear
    norm: nn.LayerNorm
    posterior: nn.Linear
    posterior_head: nn.Linear

    def parameters(self) -> list[Tensor]:
        """Weights and biases of all layers."""
        return [parameter for layer in self for parameter in (layer.weight, layer.bias)]


class Sequences(NamedTuple):
    """What is filtered; none of it receives gradients."""

    action: Tensor
    """[T, B, A], zero where an episode starts."""
    keep: Tensor
    """[T, B] bool: whether the state before this step counts."""
    ones: Tensor
    """[B, S] int32: the ones of the stochastic state before the first step; -1 where a vector is zero."""
    deter: Tensor
    """[B, D] float32: the deterministic state before the first step."""
    noise: Tensor | None
    """[T, B, S] uniform; None takes modes."""
    classes: int
    """K."""


def observe(layers: Layers, embed: Tensor, sequences: Sequences) -> tuple[Tensor, Tensor, Tensor]:
    """Deterministic states [T, B, D], one-hot samples [T, B, Z] and their logits [T, B, S, K], all in float32.

    `embed` is [T, B, E]; gradients flow into it and into the layers.
    """
    function: Any = _Observe.apply
    deter, stoch, logits = function(layers, sequences, embed, *layers.parameters())
    return deter, stoch, logits


class _Observe(torch.autograd.Function):
    """`observe`, with the layers' parameters as arguments."""

    @staticmethod
    def forward(
        ctx: Any, layers: Layers, sequences: Sequences, embed: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `observe`."""
        action, keep, index_before, deter_before, noise, classes = sequences
        dtype = fast.compute_dtype(embed)
        (steps, batch, _), size, units = embed.shape, deter_before.shape[1], layers.transition.out_features
        (variables,) = index_before.shape[1:]
        width = variables * classes
        embed_rows = embed.detach().to(dtype).flatten(0, 1)
        action_rows = action.to(dtype).flatten(0, 1)
        from_embed = fast.product(embed_rows, fast.columns(layers.posterior.weight, slice(size, None), dtype))
        from_embed = from_embed.view(steps, batch, -1)
        from_action = fast.product(action_rows, fast.columns(layers.transition.weight, slice(width, None), dtype))
        from_action = from_action.view(steps, batch, units)
        rows = fast.table(layers.transition.weight, width, dtype)
        gates_weight, deter_weight = _weights(layers, size, dtype)
        head_weight = fast.cast(layers.posterior_head.weight, dtype)

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
            fast.one_hot_elu(before[t], rows, from_action[t], layers.transition.bias, joined[t])
            joined[t, :, units:] = state_before[t]
            torch.mm(joined[t], gates_weight.T, out=gates[t])
            last_deter = fast.gru(gates[t], layers.gates.bias, layers.norm, state_before[t], deter_rows[t])
            deter[t] = last_deter
            torch.addmm(from_embed[t], deter_rows[t], deter_weight.T, out=hidden[t])
            fast.bias_elu_(hidden[t], layers.posterior.bias)
            torch.mm(hidden[t], head_weight.T, out=logits[t])
            draws = None if noise is None else noise[t]
            fast.sample_one_hot(logits[t], layers.posterior_head.bias, draws, classes, index[t])
            last_index = index[t]
        stats = (logits.float() + layers.posterior_head.bias.detach()).unflatten(-1, (variables, classes))
        stoch = one_hot(index, width)
        ctx.layers = layers
        ctx.embed_dtype = embed.dtype
        ctx.save_for_backward(
            embed_rows, action_rows, kept, before, state_before, joined, gates, deter_rows, hidden, stats, *parameters
        )
        return deter, stoch, stats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, deter_grad: Tensor, stoch_grad: Tensor, stats_grad: Tensor) -> tuple[Any, ...]:
        """For the embeddings and the parameters."""
        layers: Layers = ctx.layers
        embed, action, kept, before, state_before, joined, gates, deter, hidden, stats, *_ = ctx.saved_tensors
        steps, batch, variables, classes = stats.shape
        size, units, width, dtype = deter.shape[2], layers.transition.out_features, variables * classes, gates.dtype
        gates_weight, deter_weight = _weights(layers, size, dtype)
        head_weight = fast.cast(layers.posterior_head.weight, dtype)
        stoch_weight = fast.table(layers.transition.weight, width, dtype)
        probs = stats.softmax(-1)
        deter_grad, stoch_grad, stats_grad = (grad.contiguous() for grad in (deter_grad, stoch_grad, stats_grad))

        logits_grad = torch.empty((steps, batch, width), dtype=dtype)
        hidden_grad, input_grad = torch.empty_like(hidden), torch.empty((steps, batch, units), dtype=dtype)
        gates_grad, norm_grad = torch.empty_like(gates), torch.zeros((2, 3 * size))
        hidden_bias_grad, input_bias_grad = torch.zeros(hidden.shape[2]), torch.zeros(units)
        from_deter, from_stoch = torch.zeros_like(state_before[0]), torch.zeros((batch, width))
        for t in reversed(range(steps)):
            fast.straight_through_backward(probs[t], stoch_grad[t] + from_stoch, stats_grad[t], logits_grad[t])
            grad, bias_grad = fast.bias_elu_backward(logits_grad[t] @ head_weight, hidden[t])
            hidden_grad[t] = grad
            hidden_bias_grad += bias_grad
            grad = (grad @ deter_weight).float() + deter_grad[t] + from_deter
            arguments = (gates[t], layers.gates.bias, layers.norm, state_before[t], grad, gates_grad[t], norm_grad)
            from_deter = fast.gru_backward(*arguments)
            grad = gates_grad[t] @ gates_weight
            from_deter = (from_deter + grad[:, units:]) * kept[t]
            grad, bias_grad = fast.bias_elu_backward(grad[:, :units], joined[t, :, :units].contiguous())
            input_grad[t] = grad
            input_bias_grad += bias_grad
            from_stoch = (grad @ stoch_weight.T).float() * kept[t]

        logits_rows, hidden_rows, gates_rows, input_rows = (
            grad.flatten(0, 1) for grad in (logits_grad, hidden_grad, gates_grad, input_grad)
        )
        posterior_grad = torch.cat([hidden_rows.T @ deter.flatten(0, 1), hidden_rows.T @ embed], 1)
        stoch_part = fast.one_hot_grad(before.flatten(0, 1), input_rows, width).T
        embed_grad = None
        if ctx.needs_input_grad[2]:
            embed_grad = hidden_rows @ fast.columns(layers.posterior.weight, slice(size, None), dtype)
            embed_grad = embed_grad.view(steps, batch, -1).to(ctx.embed_dtype)
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


def _weights(layers: Layers, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of the gates, and of the posterior's layer for the deterministic state alone."""
    return fast.cast(layers.gates.weight, dtype), fast.columns(layers.posterior.weight, slice(size), dtype)
