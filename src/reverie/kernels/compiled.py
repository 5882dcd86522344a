"""The RSSM's steps through torch.compile, on CUDA (experimental: no GPU has run this).

A step has so little work that starting its kernels takes most of its time; compiled, there are a few of them instead of
dozens. Compiling takes about a minute, at the first update, and needs Triton and a C compiler.
"""

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from reverie.dreamer.rssm import RSSM, State

OLDEST = (7, 0)
"""Compute capability that Triton needs: Volta."""


def can_compile(device: torch.device) -> bool:
    """Return whether torch.compile can make kernels for a device."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= OLDEST


class CompiledMethod:
    """A function that is compiled at its first call, or used as it is, with a warning, where that fails."""

    def __init__(self, function: Callable[..., Any], backend: str = "inductor") -> None:
        self._plain, self._backend = function, backend
        self._compiled: Callable[..., Any] | None = None
        self._has_failed = False

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        if self._has_failed:
            return self._plain(*arguments)
        try:
            if self._compiled is None:  # The compiler takes seconds to import.
                self._compiled = torch.compile(self._plain, fullgraph=True, dynamic=False, backend=self._backend)
            return self._compiled(*arguments)
        except Exception as error:
            result = self._plain(*arguments)  # An error of the function itself is raised here.
            self._has_failed = True
            cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.warn(
                f"{self._plain.__qualname__} could not be compiled ({cause}). Updates take longer. Set "
                "--training.compile off to hide this warning.",
                RuntimeWarning,
                stacklevel=2,
            )
            return result


class CompiledRSSM(RSSM):
    """`RSSM` whose steps are compiled where it learns; acting, without gradients and in other shapes, is not."""

    def observe_step(
        self, state: State, action: Tensor, embed: Tensor, is_first: Tensor, noise: Tensor | None
    ) -> State:
        """Return the posterior state, see `RSSM.observe_step`."""
        function = OBSERVE_STEP if torch.is_grad_enabled() else RSSM.observe_step
        return function(self, state, action, embed, is_first, noise)

    def imagine_step(self, state: State, action: Tensor, noise: Tensor | None) -> State:
        """Return the prior state, see `RSSM.imagine_step`."""
        return IMAGINE_STEP(self, state, action, noise)


OBSERVE_STEP, IMAGINE_STEP = CompiledMethod(RSSM.observe_step), CompiledMethod(RSSM.imagine_step)
