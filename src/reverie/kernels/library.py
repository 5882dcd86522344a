"""The compiled loops of `csrc`, called on tensors."""

import ctypes
import functools
import platform
import subprocess
import warnings
from pathlib import Path

import torch
from torch import Tensor

from reverie.kernels.compiler import compile_library

SOURCES = [Path(__file__).parent / "csrc" / name for name in ("kernels.c", "convolutions.c")]
SUFFIXES = {torch.float32: "f32", torch.bfloat16: "bf16"}


class Library:
    """The compiled library; functions are found by name and by the dtype of the activations."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def __call__(self, name: str, dtype: torch.dtype, *arguments: Tensor | int | None) -> None:
        """Call a function: tensors are passed by address, numbers as 64-bit integers."""
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
        """Return whether this processor has the function for a dtype."""
        return hasattr(self._library, f"{name}_{SUFFIXES[dtype]}")


@functools.cache
def load() -> Library | None:
    """Return the compiled library, or None, with a warning, where it cannot be compiled."""
    if platform.system() != "Linux":
        return None
    try:
        return Library(compile_library(SOURCES))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        warnings.warn(
            f"The CPU kernels could not be compiled ({error}). Updates take about twice as long. Install a C compiler "
            "(gcc), or set REVERIE_KERNELS=0 to hide this warning.",
            stacklevel=3,
        )
        return None
