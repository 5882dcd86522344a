"""Agents and parts of agents with kernels."""

import importlib.util
import warnings
from typing import TypeVar

import pytest

T = TypeVar("T")
HAS_KERNELS = importlib.util.find_spec("reverie.kernels") is not None
needs_kernels = pytest.mark.skipif(not HAS_KERNELS, reason="there is no package reverie.kernels")


def optimised(part: T) -> T:
    """Convert an agent, a module or an optimizer by `kernels.optimize`; a kernel that is refused is an error."""
    from reverie.kernels import optimize

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return optimize(part)
