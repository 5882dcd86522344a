"""Operations without gradients on a CPU, which the layers of this package are made of; their first lines say what.

They serve float32 and bfloat16, where the loops of `kernels.c` could be compiled.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from reverie.fast import kernels


def serves(x: Tensor, bias: Tensor | None = None) -> bool:
    """Whether the compiled loops can take `x`, and a bias, which they read as float32."""
    if bias is not None and bias.dtype != torch.float32:
        return False
    return x.device.type == "cpu" and x.dtype in kernels.SUFFIXES and kernels.load() is not None


def compute_dtype(x: Tensor) -> torch.dtype:
    """What products are computed in: the autocast's dtype inside of one, otherwise that of `x`."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


_derived: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""What was made of a parameter's present value: its version, and results by name."""


def derive(parameter: Tensor, name: Any, make: Callable[[Tensor], Tensor]) -> Tensor:
    """What `make` makes of a parameter, without gradient; made once for each of the parameter's values."""
    version, results = _derived.get(parameter, (None, {}))
    if version != parameter._version:
        results = {}
        _derived[parameter] = (parameter._version, results)
    if name not in results:
        results[name] = make(parameter.detach())
    return results[name]


def cast(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """A parameter in another dtype, without gradient; converted once for each of its values."""
    if parameter.dtype == dtype:
        return parameter.detach()
    return derive(parameter, dtype, lambda value: value.to(dtype))


def columns(weight: Tensor, part: slice, dtype: torch.dtype) -> Tensor:
    """`weight[:, part]` as a dense matrix; made once for each value of the weight."""
    name = ("columns", part.start, part.stop, dtype)
    return derive(weight, name, lambda value: value[:, part].to(dtype).contiguous())


def table(weight: Tensor, stop: int, dtype: torch.dtype) -> Tensor:
    """The first `stop` columns of a weight as dense rows [stop, O]; made once for each value of the weight."""
    return derive(weight, ("table", stop, dtype), lambda value: value[:, :stop].T.to(dtype).contiguous())


@functools.cache
def _prefers_onednn() -> bool:
    """MKL's float32 products leave a third of the speed of processors that are not Intel's unused; oneDNN's do not."""
    try:
        return "GenuineIntel" not in Path("/proc/cpuinfo").read_text() and torch.backends.mkldnn.is_available()
    except OSError:
        return False


def product(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight.T` without gradient; x is [M, K], weight is [N, K]."""
    if x.dtype == torch.float32 and x.shape[0] >= 64 and _prefers_onednn():
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return x @ weight.T


def bias_elu_(x: Tensor, bias: Tensor) -> Tensor:
    """`elu(x + bias)` over the last axis of a dense `x`, in place, without gradient."""
    columns = x.shape[-1]
    _kernel()("bias_elu", x.dtype, x, bias, x.numel() // columns, columns)
    return x


def bias_elu_backward(grad: Tensor, result: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `bias_elu_` for its input and its bias, from its result."""
    columns = result.shape[-1]
    grad = grad.to(result.dtype).contiguous()
    out, bias_grad = torch.empty_like(result), torch.zeros(columns)
    _kernel()("bias_elu_backward", result.dtype, grad, result, out, bias_grad, result.numel() // columns, columns)
    return out, bias_grad


def _kernel() -> kernels.Kernels:
    loaded = kernels.load()
    assert loaded is not None
    return loaded


def feature_dense(index: Tensor, deter: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`elu(cat([one_hot(index), deter]) @ weight.T + bias)` without gradient: [N, O] in the dtype of `deter`."""
    one_hot_size = weight.shape[1] - deter.shape[1]
    base = product(deter, columns(weight, slice(one_hot_size, None), deter.dtype))
    return one_hot_elu(index, table(weight, one_hot_size, deter.dtype), base, bias, base)


def one_hot_elu(index: Tensor, rows: Tensor, base: Tensor | None, bias: Tensor, out: Tensor) -> Tensor:
    """`elu(base + rows[index].sum(1) + bias)` into `out`, which may be `base`; index [N, S], rows [Z, O]."""
    (number, count), units = index.shape, rows.shape[1]
    strides = (0 if base is None else base.stride(0), out.stride(0))
    _kernel()("one_hot_elu", rows.dtype, index, count, rows, base, strides[0], bias, out, strides[1], number, units)
    return out


def one_hot_grad(index: Tensor, grad: Tensor, size: int) -> Tensor:
    """`one_hot(index).T @ grad`, [size, O] in float32; index [N, S], grad [N, O]."""
    (rows, count), units = index.shape, grad.shape[1]
    result = torch.zeros(size, units)
    _kernel()("one_hot_backward", grad.dtype, index, count, grad, result, rows, units)
    return result


def sample_one_hot(logits: Tensor, bias: Tensor, noise: Tensor | None, classes: int, out: Tensor) -> None:
    """Numbers of the ones of `straight_through(logits + bias, noise)`, into `out` [N, S] int32; logits [N, S * K]."""
    rows, variables = out.shape
    _kernel()("sample_one_hot", logits.dtype, logits, bias, noise, out, rows, variables, classes)


def gru(gates: Tensor, bias: Tensor, norm: nn.LayerNorm, state: Tensor, copy: Tensor) -> Tensor:
    """The GRU after its product: gates [N, 3 D], state [N, D] to the next state [N, D], both in float32.

    The next state also goes into `copy` [N, D], in the dtype of `gates`, whose rows may be parts of wider ones.
    """
    rows, size = state.shape
    following = torch.empty_like(state)
    arguments = (gates, bias, norm.weight, norm.bias, state, following, copy, copy.stride(0), rows, size)
    _kernel()("gru", gates.dtype, *arguments)
    return following


def gru_backward(
    gates: Tensor, bias: Tensor, norm: nn.LayerNorm, state: Tensor, grad: Tensor, gates_grad: Tensor, norm_grad: Tensor
) -> Tensor:
    """The gradient of `gru` for `state`, from that of its result; that for `gates` goes into `gates_grad`.

    The gradients of the norm's weight and bias are added to the two rows of `norm_grad` [2, 3 D].
    """
    state_grad = torch.zeros_like(state)
    tensors = (gates, bias, norm.weight, norm.bias, state, grad, gates_grad, state_grad, norm_grad[0], norm_grad[1])
    _kernel()("gru_backward", gates.dtype, *tensors, *state.shape)
    return state_grad


def straight_through_backward(probs: Tensor, sample_grad: Tensor, logits_grad: Tensor, out: Tensor) -> None:
    """The gradient of logits [N, S, K] and of samples with straight-through gradients, into `out` [N, S * K]."""
    rows, variables, classes = probs.shape
    arguments = (probs, sample_grad, logits_grad, out, rows * variables, classes)
    _kernel()("straight_through_backward", out.dtype, *arguments)
