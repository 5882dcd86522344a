"""Environments by the place of their code, `module:Class`."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import gymnasium

from reverie.errors import EnvError

EnvFactory = Callable[[], gymnasium.Env[Any, Any]]
"""A function, or class, that creates a new environment at every call."""


def import_env(name: str) -> str | EnvFactory:
    """Import the environment of a `module:Class`, also from the current folder.

    Args:
        name: `module:Class`, or `module:function` of a function that creates the environment, or a Gymnasium id with
            the module that registers it or without, `module:Name-v0` or `Name-v0`.

    Returns:
        The class or function; an id as it is. `as_factory` takes both.

    Raises:
        EnvError: if the module cannot be imported, or has no such class.
    """
    module_name, separator, attribute = name.rpartition(":")
    if not separator:
        return name
    # First, as in `python -m`. It stays there: modules import others later, and worker processes get the same path.
    if (folder := os.getcwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise EnvError(
            f"The module of {name} cannot be imported ({type(error).__name__}: {error}). "
            "Type the command in the folder of the module, or install it."
        ) from error
    if not attribute.isidentifier():
        return name
    found = getattr(module, attribute, None)
    if not callable(found):
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and _creates_env(value)]
        advice = f"It has {', '.join(classes)}." if classes else "Write it as module:Class or module:function."
        what = "no" if found is None else "no class or function"
        raise EnvError(f"The module {module_name} has {what} {attribute}. {advice}")
    factory: EnvFactory = found
    return factory


def _creates_env(value: type) -> bool:
    return callable(getattr(value, "reset", None)) and callable(getattr(value, "step", None))
