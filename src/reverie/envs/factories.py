"""Functions that create environments, from what a user passes: an id, a class, a function or an instance."""

import copy
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gymnasium

from reverie.config import EnvConfig
from reverie.envs.gym_vector import VectorEnvError, is_envpool, num_vector_envs
from reverie.envs.step_wrapper import Env, env_name
from reverie.envs.wrap_other import wrap_other
from reverie.errors import EnvError

EnvFactory = Callable[[], Any]
"""A function, or class, that creates a new environment at every call: a `gymnasium.Env`, a vector environment, or one
of another interface, see `as_factory`."""


class InstanceFactory:
    """Returns an instance at the first call and deep copies of it later."""

    def __init__(self, env: Any) -> None:
        self.env, self.name = env, env_name(env)
        self._is_used = False

    def __call__(self) -> Any:
        """Return the instance, or a copy."""
        if not self._is_used:
            self._is_used = True
            return self.env
        self.check_copy()
        try:
            return copy.deepcopy(self.env)
        except Exception as error:
            raise EnvError(
                f"Training and evaluation need separate environments, but {self.name} cannot be copied ({error}); "
                "pass a function that creates the environment instead."
            ) from error

    def check_copy(self) -> None:
        """Raise an `EnvError` if the instance has processes or threads of its own, of which there is no copy."""
        if is_envpool(self.env) or isinstance(self.env.unwrapped, gymnasium.vector.AsyncVectorEnv):
            raise EnvError(
                f"Training and evaluation need separate environments, but {self.name} cannot be copied. "
                "Pass a function that creates the environment instead."
            )


def as_factory(env: Any) -> tuple[str, EnvFactory | None]:
    """Return the name of an environment and the function for `make_env`.

    Args:
        env: a Gymnasium id, which needs no function; `module:Class`, imported also from the current folder; a function
            or class, called for every environment; or an instance, used once, and copied for a second environment.
            Environments of dm_env and of the older Gym are wrapped, those of `gymnasium.vector` stepped as they are.

    Raises:
        EnvError: if it is something else, if a module cannot be imported, or if it has no such class.
    """
    if isinstance(env, str):
        return env, _import(env)
    instance = env if num_vector_envs(env) else wrap_other(env)
    if instance is not None:
        return env_name(instance), InstanceFactory(instance)
    if callable(env):
        return _name(env), env
    raise EnvError(
        f"An environment must be a Gymnasium id, an environment of Gymnasium, dm_env or the older Gym, or a function "
        f"that creates one, not {type(env).__name__}."
    )


def choose_env(config: EnvConfig, env: Any = None) -> tuple[EnvConfig, EnvFactory | None]:
    """Return the configuration and the factory with which an agent's environment is created again, or another one.

    Args:
        config: of the environment that the agent was trained in.
        env: as for `as_factory`; None takes the agent's own, without importing a module of the current folder.

    Raises:
        EnvError: if `env` is None and the agent was trained in a class or in no environment; and as `as_factory`.
    """
    if env is not None:
        name, factory = as_factory(env)
        return replace(config, name=name), factory
    if not config.name:
        raise EnvError(
            "The agent learned from recorded episodes alone and names no environment. Nothing was played. Name one: "
            "--env ID, or env=ID in Python."
        )
    module, _, name = config.name.rpartition(":")
    if name.isidentifier():  # a name that no id has
        raise EnvError(
            f"The agent was trained in {config.name}, a class or function. It is imported only if you name it. "
            f"Give it: --env {module or 'module'}:{name}, or env={name} in Python."
        )
    return config, None


def keep_open(env: Any) -> Any:
    """Return an instance so that its `close` does nothing; anything else, and one of EnvPool, as it is."""
    if isinstance(env, gymnasium.vector.VectorEnv):
        return _OpenVector(env)
    if num_vector_envs(env) or (instance := wrap_other(env)) is None:
        return env
    return _Open(instance)


def keep_vector(factory: EnvFactory) -> EnvFactory:
    """Return an `InstanceFactory` where a factory creates a vector environment, and the factory where it does not."""
    if isinstance(factory, InstanceFactory):
        return factory
    try:
        call_factory(factory, None).close()
    except VectorEnvError as error:
        return InstanceFactory(error.env)
    return factory


class _Open(gymnasium.Wrapper[Any, Any, Any, Any]):
    def close(self) -> None:
        pass


class _OpenVector(gymnasium.vector.VectorWrapper):
    def close(self, **options: Any) -> None:
        pass


def call_factory(factory: EnvFactory, render_mode: str | None) -> Env:
    """Return a new environment of a factory, with a render mode if the factory takes one.

    Raises:
        VectorEnvError: if it is a vector environment; it is not closed.
        EnvError: if that fails, or is no environment.
    """
    options: dict[str, Any] = {}
    if render_mode is not None:
        with suppress(TypeError, ValueError):
            inspect.signature(factory).bind(render_mode=render_mode)
            options = {"render_mode": render_mode}
    env = call(factory, **options)
    if num_vector_envs(env):
        raise VectorEnvError(env)
    if (wrapped := wrap_other(env)) is None:
        raise EnvError(
            f"{_name(factory)} created a {type(env).__module__}.{type(env).__name__}. It is no environment of "
            "Gymnasium, dm_env or the older Gym. Return one of these."
        )
    return wrapped


def call(factory: Callable[..., Any], **options: Any) -> Any:
    """Return what a factory creates; raise an `EnvError` if that fails."""
    try:
        return factory(**options)
    except EnvError:
        raise
    except Exception as error:
        raise EnvError(
            f"{_name(factory)} could not create the environment: {type(error).__name__}: {error}."
        ) from error


def _name(factory: EnvFactory) -> str:
    name = getattr(factory, "name", None) or getattr(factory, "__qualname__", type(factory).__name__)
    return str(name).rsplit(".", 1)[-1]


def _import(name: str) -> EnvFactory | None:
    """Return the class or function of `module:Class`; None for an id, whose module is imported if it has one."""
    module_name, separator, attribute = name.rpartition(":")
    if not separator:
        return None
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
        return None
    found: EnvFactory | None = getattr(module, attribute, None)
    if callable(found):
        return found
    raise EnvError(f"The module {module_name} has no class or function {attribute}. Write module:Class.")
