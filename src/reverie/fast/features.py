"""Features of many states at once, as the heads read them."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Concatenated one-hot samples, given by the numbers of their ones, beside deterministic parts; without gradient.

    A dense layer reads them as a sum of rows of its weight, a thirtieth of the arithmetic of the product.
    """

    index: Tensor
    """[*N, S] int32: which columns of the one-hot part are 1."""
    deter: Tensor
    """[*N, D]"""
    one_hot_size: int
    """Z: columns of the one-hot part."""

    @property
    def shape(self) -> torch.Size:
        """Of the dense matrix, [*N, Z + D]."""
        return torch.Size((*self.deter.shape[:-1], self.one_hot_size + self.deter.shape[-1]))

    def __getitem__(self, part: slice) -> "Features":
        """Some entries of the first axis."""
        return Features(self.index[part], self.deter[part], self.one_hot_size)

    def detach(self) -> "Features":
        """These features, which have no gradient."""
        return self

    def dense(self) -> Tensor:
        """The matrix that this stands for, in float32."""
        return torch.cat([one_hot(self.index, self.one_hot_size), self.deter.float()], -1)


def one_hot(index: Tensor, size: int) -> Tensor:
    """Float vectors [*N, size] with ones at `index` [*N, S]."""
    return torch.zeros((*index.shape[:-1], size)).scatter_(-1, index.long(), 1.0)


def one_hot_index(value: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """The numbers of the ones [*N, S] int32 in concatenated one-hot vectors [*N, Z] of the given sizes."""
    offsets = torch.tensor((0, *sizes[:-1])).cumsum(0)
    if len(set(sizes)) == 1:
        parts = value.unflatten(-1, (len(sizes), sizes[0])).argmax(-1)
    else:
        parts = torch.stack([part.argmax(-1) for part in value.split(sizes, -1)], -1)
    return (parts + offsets).int()
