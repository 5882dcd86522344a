"""Dense layers as single functions, forward and backward."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from reverie.fast.features import Features
from reverie.fast.operations import (
    bias_elu_,
    bias_elu_backward,
    cast,
    compute_dtype,
    feature_dense,
    one_hot_grad,
    product,
    serves,
)


def dense_elu(x: Tensor | Features, layer: nn.Linear, known: Tensor | None = None) -> Tensor:
    """`elu(layer(x))`; `known` is that result without gradient, where somebody has computed it before."""
    if isinstance(x, Features):
        known = known if known is None else known.flatten(0, -2)
        y = apply(_FeatureDense, x.index.flatten(0, -2), x.deter.flatten(0, -2), layer.weight, layer.bias, known)
        return y.unflatten(0, x.shape[:-1])
    if not serves(x, layer.bias):
        return F.elu(layer(x))
    return dense_elu_of(x, layer.weight, layer.bias, known)


def dense_elu_of(x: Tensor, weight: Tensor, bias: Tensor, known: Tensor | None = None) -> Tensor:
    """`elu(x @ weight.T + bias)`."""
    return apply(_DenseElu, x, weight, bias, known)


def apply(function: Any, *inputs: Any) -> Tensor:
    """`function.apply(*inputs)` of an autograd function with one result, whose type PyTorch does not know."""
    result: Tensor = function.apply(*inputs)
    return result


class _DenseElu(torch.autograd.Function):
    """`elu(x @ weight.T + bias)`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, known: Tensor | None) -> Tensor:
        """Inputs x [..., I], weight [O, I], bias [O]; the result is [..., O] in the compute dtype."""
        dtype = compute_dtype(x)
        rows = x.detach().to(dtype).flatten(0, -2)
        if known is None:
            y = bias_elu_(product(rows, cast(weight, dtype)), bias.detach())
        else:
            y = known.detach().flatten(0, -2)
        ctx.save_for_backward(rows, weight, y)
        ctx.lead, ctx.x_dtype = x.shape[:-1], x.dtype
        return y.unflatten(0, x.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """For x, weight and bias."""
        rows, weight, y = ctx.saved_tensors
        grad, bias_grad = bias_elu_backward(grad.flatten(0, -2), y)
        x_grad = weight_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = product(grad, cast(weight, rows.dtype).T).to(ctx.x_dtype).unflatten(0, ctx.lead)
        if ctx.needs_input_grad[1]:
            weight_grad = product(grad.T, rows.T).to(weight.dtype)
        return x_grad, weight_grad, bias_grad, None


class _FeatureDense(torch.autograd.Function):
    """A dense layer with ELU on features whose one-hot part is given by its ones; no gradient flows to the features."""

    @staticmethod
    def forward(ctx: Any, index: Tensor, deter: Tensor, weight: Tensor, bias: Tensor, known: Tensor | None) -> Tensor:
        """Inputs index [N, S], deter [N, D], weight [O, Z + D], bias [O]; the result is [N, O]."""
        y = feature_dense(index, deter, weight, bias) if known is None else known.detach()
        ctx.save_for_backward(index, deter, weight, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """For weight and bias."""
        index, deter, weight, y = ctx.saved_tensors
        grad, bias_grad = bias_elu_backward(grad, y)
        one_hot_size = weight.shape[1] - deter.shape[1]
        weight_grad = torch.empty_like(weight)
        weight_grad[:, :one_hot_size] = one_hot_grad(index, grad, one_hot_size).T
        weight_grad[:, one_hot_size:] = product(grad.T, deter.T)
        return None, None, weight_grad, bias_grad, None
