"""Environments by the place of their code, `module:Class`."""

import importlib.util
import os
import sys
from dataclasses import replace
from typing import Any

from reverie.config import EnvConfig
from reverie.envs.make import EnvFactory, as_factory
from reverie.errors import EnvError


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
    found: Any = getattr(module, attribute, None) if attribute.isidentifier() else name
    if callable(found) or found == name:
        return found
    classes = [key for key, value in vars(module).items() if isinstance(value, type) and hasattr(value, "step")]
    advice = f"It has {', '.join(classes)}." if classes else "Write it as module:Class or module:function."
    what = "no" if found is None else "no class or function"
    raise EnvError(f"The module {module_name} has {what} {attribute}. {advice}")


def choose_env(config: EnvConfig, env: Any = None) -> tuple[EnvConfig, EnvFactory | None]:
    """Return the configuration and the factory with which an agent's environment is created again, or another one.

    Args:
        config: of the environment that the agent was trained in.
        env: a Gymnasium id, `module:Class`, a class or function, or an instance; None takes the agent's own.

    Raises:
        EnvError: if `env` is None and the agent was trained in a class or in an id whose module is not installed; and
            as `import_env` and `as_factory`.
    """
    if env is None:
        module, _, name = config.name.rpartition(":")
        if name.isidentifier():  # a name that no id has
            raise EnvError(
                f"The agent was trained in {config.name}, a class or function. It is imported only if you name it. "
                f"Give it: --env {module or 'module'}:{name}, or env={name} in Python."
            )
        try:
            is_importable = not module or importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            is_importable = False
        if not is_importable:  # the current folder only where its module was named by the user
            raise EnvError(
                f"The agent was trained in {config.name}, whose module is not installed. "
                f"To import it from the current folder, give it: --env {config.name}."
            )
        return config, None
    name, factory = as_factory(import_env(env) if isinstance(env, str) else env)
    return replace(config, name=name), factory
