"""Dense layers as single functions, forward and backward, also on sparse features."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from reverie.dreamer.layers import MLP, Dense
from reverie.kernels.features import SparseFeatures
from reverie.kernels.operations import (
    bias_elu_,
    bias_elu_backward,
    cast,
    compute_dtype,
    feature_dense,
    is_supported,
    one_hot_grad,
    product,
)
from reverie.kernels.replaced import is_plain


class FastDense(Dense):
    """`Dense` without layer norm as one autograd function: bias and ELU in one pass, gradients from the result."""

    @staticmethod
    def is_applicable(layer: nn.Module) -> bool:
        """Return whether a layer can be of this class."""
        return (
            isinstance(layer, Dense)
            and is_plain(layer, Dense, FastDense)
            and is_plain(layer.linear, nn.Linear)
            and isinstance(layer.norm, nn.Identity)
        )

    def forward(self, input: Tensor, result: Tensor | None = None) -> Tensor:
        """Apply the layer to the last axis; `result` is its value, if it is known, and is only given a gradient."""
        weight, bias = self.linear.weight, self.linear.bias
        if input.ndim < 2 or not is_supported(input, bias):
            return super().forward(input)
        lead = input.shape[:-1]
        if isinstance(input, SparseFeatures):
            deter = input.deter.to(compute_dtype(input)).flatten(0, -2)
            y = apply(_FeatureDense, input.ones.flatten(0, -2), deter, weight, bias, result)
        else:
            y = dense_elu(input.flatten(0, -2), weight, bias, result)
        return y.unflatten(0, lead)


class FastMLP(MLP):
    """`MLP` that takes the results of its hidden layers from sparse features that have them."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layers to the last axis."""
        results = input.hidden_layers(self) if isinstance(input, SparseFeatures) else None
        if results is None:
            return super().forward(input)  # type: ignore[no-untyped-call]
        x = input
        for number, layer in enumerate(self):
            x = layer(x, results[number].flatten(0, -2)) if isinstance(layer, FastDense) else layer(x)
        return x


def dense_elu(x: Tensor, weight: Tensor, bias: Tensor, result: Tensor | None = None) -> Tensor:
    """Return `elu(x @ weight.T + bias)` of rows x, in the compute dtype."""
    return apply(_Dense, x, weight, bias, result)


def apply(function: Any, *inputs: Any) -> Tensor:
    """Return `function.apply(*inputs)` of an autograd function with one result."""
    output: Tensor = function.apply(*inputs)
    return output


class _Dense(torch.autograd.Function):
    """`elu(x @ weight.T + bias)` with x [N, I], weight [O, I], bias [O]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, result: Tensor | None) -> Tensor:
        dtype = compute_dtype(x)
        rows = x.detach().to(dtype)
        y = bias_elu_(product(rows, cast(weight, dtype)), bias.detach()) if result is None else result.detach()
        ctx.save_for_backward(rows, weight, y)
        ctx.x_dtype = x.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, y = ctx.saved_tensors
        grad, bias_grad = bias_elu_backward(grad, y)
        x_grad = weight_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = product(grad, cast(weight, rows.dtype).T).to(ctx.x_dtype)
        if ctx.needs_input_grad[1]:
            weight_grad = product(grad.T, rows.T).to(weight.dtype)
        return x_grad, weight_grad, bias_grad, None


class _FeatureDense(torch.autograd.Function):
    """`_Dense` of sparse features with index [N, S], deter [N, D]; weight [O, Z + D]."""

    @staticmethod
    def forward(ctx: Any, index: Tensor, deter: Tensor, weight: Tensor, bias: Tensor, result: Tensor | None) -> Tensor:
        y = feature_dense(index, deter, weight, bias) if result is None else result.detach()
        ctx.save_for_backward(index, deter, weight, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        index, deter, weight, y = ctx.saved_tensors
        grad, bias_grad = bias_elu_backward(grad, y)
        one_hot_size = weight.shape[1] - deter.shape[1]
        weight_grad = torch.empty_like(weight)
        weight_grad[:, :one_hot_size] = one_hot_grad(index, grad, one_hot_size).T
        weight_grad[:, one_hot_size:] = product(grad.T, deter.T)
        return None, None, weight_grad, bias_grad, None
