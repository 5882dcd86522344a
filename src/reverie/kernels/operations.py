"""Operations without gradients on a CPU, of which the fast modules consist.

They take float32 and bfloat16 and need the compiled library.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from reverie.kernels import library

DTYPES = frozenset(library.SUFFIXES)


def is_supported(x: Tensor, bias: Tensor) -> bool:
    """Return whether the operations take an input, and a layer's bias, which they read as float32."""
    return x.device.type == "cpu" and x.dtype in DTYPES and compute_dtype(x) in DTYPES and bias.dtype == torch.float32


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of products: autocast's where it is enabled, otherwise that of `x`."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


_derived: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""For each parameter its version and address, and what was computed of it by name."""


def derive(parameter: Tensor, name: Any, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a function of a parameter, without gradient; computed once for each of the parameter's versions.

    In-place changes of `parameter.data` have no version and are not noticed: change parameters under `torch.no_grad`.
    """
    key = (parameter._version, parameter.data_ptr())
    known, results = _derived.get(parameter, (None, {}))
    if known != key:
        results = {}
        _derived[parameter] = (key, results)
    if name not in results:
        results[name] = function(parameter.detach())
    return results[name]


def cast(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a parameter in another dtype, without gradient."""
    if parameter.dtype == dtype:
        return parameter.detach()
    return derive(parameter, dtype, lambda value: value.to(dtype))


def columns(weight: Tensor, part: slice, dtype: torch.dtype) -> Tensor:
    """Return `weight[:, part]` as a contiguous matrix, without gradient."""
    name = ("columns", part.start, part.stop, dtype)
    return derive(weight, name, lambda value: value[:, part].to(dtype).contiguous())


def table(weight: Tensor, stop: int, dtype: torch.dtype) -> Tensor:
    """Return the first `stop` columns of a weight as contiguous rows [stop, O], without gradient."""
    return derive(weight, ("table", stop, dtype), lambda value: value[:, :stop].T.to(dtype).contiguous())


@functools.cache
def _prefers_onednn() -> bool:
    """Return whether float32 products are faster in oneDNN than in MKL: on processors that are not Intel's."""
    try:
        return "GenuineIntel" not in Path("/proc/cpuinfo").read_text() and torch.backends.mkldnn.is_available()
    except OSError:
        return False


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return `x @ weight.T`; x is [M, K], weight is [N, K]."""
    if x.dtype == torch.float32 and x.shape[0] >= 64 and _prefers_onednn():
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return x @ weight.T


def _library() -> library.Library:
    loaded = library.load()
    assert loaded is not None
    return loaded


def bias_elu_(x: Tensor, bias: Tensor) -> Tensor:
    """Replace a contiguous `x` by `elu(x + bias)`, with the bias on the last axis."""
    num_columns = x.shape[-1]
    _library()("bias_elu", x.dtype, x, bias, x.numel() // num_columns, num_columns)
    return x


def bias_elu_backward(grad: Tensor, result: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the input and the bias of `bias_elu_`, given its result."""
    num_columns = result.shape[-1]
    grad = grad.to(result.dtype).contiguous()
    out, bias_grad = torch.empty_like(result), torch.zeros(num_columns)
    sizes = (result.numel() // num_columns, num_columns)
    _library()("bias_elu_backward", result.dtype, grad, result, out, bias_grad, *sizes)
    return out, bias_grad


def feature_dense(index: Tensor, deter: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `elu(cat([one_hot(index), deter]) @ weight.T + bias)`, [N, O] in the dtype of `deter`."""
    one_hot_size = weight.shape[1] - deter.shape[1]
    base = product(deter, columns(weight, slice(one_hot_size, None), deter.dtype))
    return one_hot_elu(index, table(weight, one_hot_size, deter.dtype), base, bias, base)


def one_hot_elu(index: Tensor, rows: Tensor, base: Tensor | None, bias: Tensor, out: Tensor) -> Tensor:
    """Write `elu(base + rows[index].sum(1) + bias)` to `out`, which may be `base`; index [N, S], rows [Z, O]."""
    (number, count), units = index.shape, rows.shape[1]
    strides = (0 if base is None else base.stride(0), out.stride(0))
    _library()("one_hot_elu", rows.dtype, index, count, rows, base, strides[0], bias, out, strides[1], number, units)
    return out


def one_hot_grad(index: Tensor, grad: Tensor, size: int) -> Tensor:
    """Return `one_hot(index).T @ grad`, [size, O] in float32; index [N, S], grad [N, O]."""
    (number, count), units = index.shape, grad.shape[1]
    result = torch.zeros(size, units)
    _library()("one_hot_backward", grad.dtype, index, count, grad, result, number, units)
    return result


def sample_one_hot(logits: Tensor, bias: Tensor, noise: Tensor | None, classes: int, out: Tensor) -> None:
    """Write the positions of the ones of `straight_through(logits + bias, noise)` to `out` [N, S] int32.

    Args:
        logits: [N, S * K].
        bias: [S * K].
        noise: uniform, [N, S]; None takes modes.
        classes: K.
        out: result.
    """
    number, variables = out.shape
    _library()("sample_one_hot", logits.dtype, logits, bias, noise, out, number, variables, classes)


def gru(gates: Tensor, bias: Tensor, norm: nn.LayerNorm, state: Tensor, copy: Tensor) -> Tensor:
    """Return the next state of `rssm.GRUCell` after its product: gates [N, 3 D], state [N, D] float32.

    The next state is also written to `copy` [N, D], in the dtype of `gates`, whose rows may be parts of longer ones.
    """
    number, size = state.shape
    following = torch.empty_like(state)
    arguments = (gates, bias, norm.weight, norm.bias, state, following, copy, copy.stride(0), number, size)
    _library()("gru", gates.dtype, *arguments)
    return following


def gru_backward(
    gates: Tensor, bias: Tensor, norm: nn.LayerNorm, state: Tensor, grad: Tensor, gates_grad: Tensor, norm_grad: Tensor
) -> Tensor:
    """Return the gradient of the state of `gru`.

    The gradient of `gates` is written to `gates_grad`; those of the norm's weight and bias are added to the two rows of
    `norm_grad` [2, 3 D].
    """
    state_grad = torch.zeros_like(state)
    tensors = (gates, bias, norm.weight, norm.bias, state, grad, gates_grad, state_grad, norm_grad[0], norm_grad[1])
    _library()("gru_backward", gates.dtype, *tensors, *state.shape)
    return state_grad


def straight_through_backward(probs: Tensor, sample_grad: Tensor, logits_grad: Tensor, out: Tensor) -> None:
    """Write the gradient of logits [N, S, K], of which straight-through samples were drawn, to `out` [N, S * K]."""
    number, variables, classes = probs.shape
    arguments = (probs, sample_grad, logits_grad, out, number * variables, classes)
    _library()("straight_through_backward", out.dtype, *arguments)
