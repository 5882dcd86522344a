"""Fast versions of the agent's modules."""

from typing import TypeVar

from torch import nn

from reverie.dreamer import Dreamer

Module = TypeVar("Module", bound=nn.Module)


def optimize(module: Module) -> Module:
    """Return the module as it is."""
    return module


def compiles(agent: Dreamer) -> bool:
    """Return whether the first updates compile."""
    return False


def tune_malloc() -> None:
    """Do nothing."""
