"""The RSSM's steps through torch.compile: a few kernels for each step in place of dozens.

It pays on a GPU, where a step is so little work that starting its kernels is most of it. The compiled methods stand in
for the plain ones while the agent learns, and only then: acting comes in other shapes, for each of which PyTorch would
compile again.

Compiling takes about a minute, at the first update. It needs Triton and a C compiler; without them, or where it
fails, the plain methods are used.

Checked on a CPU only: that the methods can be traced as a whole, and compute the same.
"""

import importlib.util
import warnings
from collections.abc import Callable
from types import MethodType, TracebackType
from typing import Any

import torch
from torch import nn

OLDEST = (7, 0)
"""Compute capability from which Triton compiles: Volta."""


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile can make kernels for the device."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= OLDEST


class Fusion:
    """While entered, some methods of a module are their compiled selves.

    Args:
        module: owner of the methods.
        names: of the methods.
        backend: of torch.compile.
    """

    def __init__(self, module: nn.Module, names: tuple[str, ...], backend: str = "inductor") -> None:
        self._module = module
        self._methods = {name: _Compiled(getattr(type(module), name), backend) for name in names}

    def __enter__(self) -> None:
        for name, method in self._methods.items():
            setattr(self._module, name, MethodType(method, self._module))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._methods:
            delattr(self._module, name)


class _Compiled:
    """A function that is compiled at its first call, and used as it is from there on where that fails."""

    def __init__(self, function: Callable[..., Any], backend: str) -> None:
        self._plain = function
        self._compiled = torch.compile(function, fullgraph=True, dynamic=False, backend=backend)
        self._failed = False

    def __call__(self, *arguments: Any) -> Any:
        if self._failed:
            return self._plain(*arguments)
        try:
            return self._compiled(*arguments)
        except Exception as error:
            result = self._plain(*arguments)  # If this is where the error comes from, it is raised as it is.
            self._failed = True
            lines = str(error).strip().splitlines() or [type(error).__name__]
            warnings.warn(
                f"{self._plain.__qualname__} is not compiled, which computes the same but takes longer: torch.compile "
                f"failed ({lines[0]}). --training.compile off leaves this message out.",
                RuntimeWarning,
                stacklevel=2,
            )
            return result
