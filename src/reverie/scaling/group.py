"""A group of learners, and what they exchange."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and dtype of tensors by name."""


class Group:
    """The default process group of torch.distributed. Tensors on a CPU travel by gloo, those on a GPU by NCCL."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def send(self, message: Any) -> None:
        """Send a picklable message from the first learner to the others."""
        dist.broadcast_object_list([message], 0, device=torch.device("cpu"))

    def receive(self) -> Any:
        """Return the next message of the first learner."""
        messages = [None]
        dist.broadcast_object_list(messages, 0, device=torch.device("cpu"))
        return messages[0]

    def broadcast(self, tensor: Tensor) -> None:
        """Copy the first learner's tensor into the others'."""
        dist.broadcast(tensor, 0)

    def part(self, whole: Tensor, dim: int) -> Tensor:
        """Return this learner's part of a tensor that all have."""
        return whole.chunk(self.size, dim)[self.rank]

    def average(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the averages of tensors of one dtype over the learners, the same bits for each, by one reduction."""
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def collect(self, value: Tensor) -> list[Any]:
        """Return a number of each learner, in the order of their ranks."""
        values = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(values, value)
        return [value.item() for value in values]

    def scatter(
        self, whole: Mapping[str, Tensor], layout: Layout, dim: int, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """Divide the first learner's tensors along a dimension, and return this learner's parts, by one message.

        Args:
            whole: of the first learner; the others' are not read.
            layout: shapes and dtypes of one part.
            dim: dimension that is divided evenly.
            device: device of the tensors.
        """
        own = torch.empty(sum(_num_bytes(*part) for part in layout.values()), dtype=torch.uint8, device=device)
        parts = None
        if self.rank == 0:
            chunks = {key: value.chunk(self.size, dim) for key, value in whole.items()}
            parts = [_pack({key: chunks[key][rank] for key in layout}, layout) for rank in range(self.size)]
        dist.scatter(own, parts, 0)
        return _unpack(own, layout)

    def gather(self, own: Mapping[str, Tensor], layout: Layout) -> list[dict[str, Tensor]]:
        """Return every learner's tensors to the first one, by one message; the others get nothing."""
        packed = _pack(own, layout)
        parts = [torch.empty_like(packed) for _ in range(self.size)] if self.rank == 0 else None
        dist.gather(packed, parts, 0)
        return [_unpack(part, layout) for part in parts or []]


def _num_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return torch.Size(shape).numel() * dtype.itemsize


def _ordered(layout: Layout) -> list[str]:
    return sorted(layout, key=lambda key: -layout[key][1].itemsize)  # each begins at a multiple of its item size


def _pack(tensors: Mapping[str, Tensor], layout: Layout) -> Tensor:
    return torch.cat([tensors[key].contiguous().view(-1).view(torch.uint8) for key in _ordered(layout)])


def _unpack(packed: Tensor, layout: Layout) -> dict[str, Tensor]:
    names = _ordered(layout)
    parts = packed.split([_num_bytes(*layout[key]) for key in names])
    return {key: part.view(layout[key][1]).view(layout[key][0]) for key, part in zip(names, parts, strict=True)}
