"""The loops of `kernels.c` and `convolutions.c`, called on tensors.

Where they cannot be compiled, `load` gives None, and everything runs on PyTorch alone.
"""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from reverie.fast.compiler import load_library

SOURCES = [Path(__file__).with_name(name) for name in ("kernels.c", "convolutions.c")]
SUFFIXES = {torch.float32: "f32", torch.bfloat16: "bf16"}


class Kernels:
    """The compiled library; a method is found by the kernel's name and the dtype of its activations."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def __call__(self, name: str, dtype: torch.dtype, *arguments: Tensor | int | None) -> None:
        """Call a kernel: tensors are given by their address, numbers as 64-bit integers."""
        values = [
            ctypes.c_void_p(value.data_ptr())
            if isinstance(value, Tensor)
            else ctypes.c_void_p()
            if value is None
            else ctypes.c_int64(value)
            for value in arguments
        ]
        getattr(self._library, f"{name}_{SUFFIXES[dtype]}")(*values)

    def has(self, name: str, dtype: torch.dtype) -> bool:
        """Whether there is such a kernel for this processor."""
        return hasattr(self._library, f"{name}_{SUFFIXES[dtype]}")


@functools.cache
def load() -> Kernels | None:
    """The kernels, or None where they are switched off (REVERIE_KERNELS=0) or cannot be compiled here."""
    library = load_library(SOURCES, "-fopenmp", "updates take about twice as long")
    return Kernels(library) if library else None
