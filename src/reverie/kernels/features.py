"""Features of imagined states, with their one-hot part given by the positions of its ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

ROUNDING = 1e-3
"""Largest difference of a straight-through sample from 0 and 1."""
_ATTRIBUTES = ("shape", "dtype", "device", "ndim", "requires_grad", "is_meta", "is_cuda")
_METADATA = {getattr(Tensor, name).__get__ for name in _ATTRIBUTES} | {Tensor.size, Tensor.dim, Tensor.__len__}
"""Functions that need no values."""


@dataclass(frozen=True)
class HiddenLayers:
    """Hidden layers of an MLP on the first states of some features, computed before with the same weights."""

    owner: nn.Module
    """The MLP."""
    versions: tuple[int, ...]
    """Version of each of its parameters."""
    layers: Sequence[Tensor]
    """[H, *N, O], without gradient."""


class SparseFeatures(Tensor):
    """Features [*N, Z + D] = [one-hot samples, deterministic states] in float32, without gradient.

    A dense layer reads them as a sum of rows of its weight, a thirtieth of the arithmetic of the product. Slices of the
    first axis and `detach` keep this form; every other operation is applied to an ordinary tensor of the same values.

    Args:
        ones: positions of the ones in the one-hot part, [*N, S] int32.
        deter: deterministic part, [*N, D], in the compute dtype.
        one_hot_size: Z.
        hidden: hidden layers of the network that chose the actions.
    """

    ones: Tensor
    deter: Tensor
    one_hot_size: int
    hidden: HiddenLayers | None

    def __new__(
        cls, ones: Tensor, deter: Tensor, one_hot_size: int, hidden: HiddenLayers | None = None
    ) -> "SparseFeatures":
        """Create a tensor without memory of its own."""
        shape = (*deter.shape[:-1], one_hot_size + deter.shape[-1])
        make: Any = Tensor._make_wrapper_subclass
        features: SparseFeatures = make(cls, shape, dtype=torch.float32, device=deter.device)
        features.ones, features.deter, features.one_hot_size, features.hidden = ones, deter, one_hot_size, hidden
        return features

    def dense(self) -> Tensor:
        """Return an ordinary tensor of the same values."""
        return torch.cat([one_hot(self.ones, self.one_hot_size), self.deter.float()], -1)

    def hidden_layers(self, owner: nn.Module) -> Sequence[Tensor] | None:
        """Return the hidden layers of an MLP on these features, if they are known and its weights are unchanged."""
        hidden = self.hidden
        if hidden is None or hidden.owner is not owner or hidden.versions != versions(owner):
            return None
        return hidden.layers

    def _slice(self, part: slice) -> "SparseFeatures":
        first, last, step = part.indices(self.deter.shape[0])
        hidden = self.hidden
        if hidden is not None:
            is_known = first == 0 and step == 1 and last <= len(hidden.layers[0])
            layers = [layer[:last] for layer in hidden.layers]
            hidden = HiddenLayers(hidden.owner, hidden.versions, layers) if is_known else None
        return SparseFeatures(self.ones[part], self.deter[part], self.one_hot_size, hidden)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Keep the sparse form where possible."""
        if func in _METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args)
        if func is Tensor.detach:
            return args[0]
        if func is Tensor.__getitem__ and isinstance(args[0], cls) and isinstance(args[1], slice):
            return args[0]._slice(args[1])
        return cls.__torch_dispatch__(func, types, args, kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Apply a function to ordinary tensors."""
        args, kwargs = tree_map_only(SparseFeatures, SparseFeatures.dense, (args, dict(kwargs or {})))
        return func(*args, **kwargs)


def versions(module: nn.Module) -> tuple[int, ...]:
    """Return how often each parameter of a module has been changed in place."""
    return tuple(parameter._version for parameter in module.parameters())


def one_hot(index: Tensor, size: int) -> Tensor:
    """Return float vectors [*N, size] with ones at `index` [*N, S]."""
    return torch.zeros((*index.shape[:-1], size)).scatter_(-1, index.long(), 1.0)


def is_one_hot(value: Tensor, num_variables: int, or_zero: bool = False) -> bool:
    """Return whether [*N, Z] are S concatenated one-hot vectors up to rounding; `or_zero` allows vectors of zeros."""
    parts = value.detach().unflatten(-1, (num_variables, -1))
    total = parts.sum(-1)
    is_valid = ((total - 1).abs() < ROUNDING) & ((parts.amax(-1) - 1).abs() < ROUNDING)
    if or_zero:
        is_valid |= parts.abs().amax(-1) == 0
    return bool(is_valid.all())


def one_hot_index(value: Tensor, num_variables: int) -> Tensor:
    """Return the positions of the ones [*N, S] int32 in S concatenated one-hot vectors [*N, Z] of equal size."""
    parts = value.unflatten(-1, (num_variables, -1))
    return (parts.argmax(-1) + torch.arange(num_variables) * parts.shape[-1]).int()
