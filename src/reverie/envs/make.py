"""Name environments, by id, class, function or instance, and create them."""

import copy
import functools
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

from reverie.config import EnvConfig
from reverie.envs import atari, minatar
from reverie.envs.registry import find_spec, install_hint
from reverie.envs.step_wrapper import Env, RepeatAction, StepWrapper, env_name
from reverie.envs.vector import RestartingWorker, VectorEnv, Worker
from reverie.envs.workers import IS_SUPPORTED, ProcessWorker, SyncWorker
from reverie.errors import EnvError
from reverie.provenance import usable_cores
from reverie.specs import EnvSpec

EnvFactory = Callable[[], Env]
"""A function, or class, that creates a new environment at every call."""


class InstanceFactory:
    """Returns an instance at the first call and deep copies of it later."""

    def __init__(self, env: Env) -> None:
        self.env, self.name = env, env_name(env)
        self._is_used = False

    def __call__(self) -> Env:
        """Return the instance, or a copy."""
        if not self._is_used:
            self._is_used = True
            return self.env
        try:
            return copy.deepcopy(self.env)
        except Exception as error:
            raise EnvError(
                f"Training and evaluation need separate environments, but {self.name} cannot be copied ({error}); "
                "pass a function that creates the environment instead."
            ) from error


def as_factory(env: Any) -> tuple[str, EnvFactory | None]:
    """Return the name of an environment and the function for `make_env`.

    Args:
        env: a Gymnasium id, which needs no function; `module:Class`, imported also from the current folder; a function
            or class, called for every environment; or an instance, used once, and copied for a second environment.

    Raises:
        EnvError: if it is something else, if a module cannot be imported, or if it has no such class.
    """
    if isinstance(env, str):
        return env, _import(env)
    if isinstance(env, gymnasium.Env):
        return env_name(env), InstanceFactory(env)
    if callable(env):
        return _name(env), env
    raise EnvError(
        f"An environment must be a Gymnasium id, a gymnasium.Env, or a function that creates one, "
        f"not {type(env).__name__}."
    )


def choose_env(config: EnvConfig, env: Any = None) -> tuple[EnvConfig, EnvFactory | None]:
    """Return the configuration and the factory with which an agent's environment is created again, or another one.

    Args:
        config: of the environment that the agent was trained in.
        env: as for `as_factory`; None takes the agent's own, without importing a module of the current folder.

    Raises:
        EnvError: if `env` is None and the agent was trained in a class; and as `as_factory`.
    """
    if env is not None:
        name, factory = as_factory(env)
        return replace(config, name=name), factory
    module, _, name = config.name.rpartition(":")
    if name.isidentifier():  # a name that no id has
        raise EnvError(
            f"The agent was trained in {config.name}, a class or function. It is imported only if you name it. "
            f"Give it: --env {module or 'module'}:{name}, or env={name} in Python."
        )
    return config, None


def make_env(config: EnvConfig, seed: int, factory: EnvFactory | None = None, restart: bool = False) -> VectorEnv:
    """Create `config.num_envs` environments that are stepped together.

    Environment i is seeded with `SeedSequence((seed, i))` at its first reset; everything after follows from that, and
    is the same in worker processes (`config.parallel`) as without them. One that is restarted has another seed.

    OpenCV is set to one thread: its threads would take the cores from the learner.

    Args:
        config: which environment, how many, and the settings of an agent step.
        seed: of all environments; not negative.
        factory: creates the environment in place of `config.name`. Sent to worker processes by cloudpickle.
        restart: restart environments that fail, see `RestartingWorker`; otherwise, and where one instance was passed,
            the first failure is an error.

    Raises:
        EnvError: if the environment is unknown, cannot be created, or has unsupported spaces.
    """
    cv2.setNumThreads(0)
    if isinstance(factory, InstanceFactory):
        restart = False
        if config.num_envs > 1:
            raise EnvError(
                f"env.num_envs is {config.num_envs}, but one instance of {factory.name} was passed; pass a function "
                "that creates the environment instead."
            )
    use_processes = IS_SUPPORTED and config.parallel and (config.num_envs > 1 or config.step_timeout > 0)
    num_workers = min(config.num_envs, usable_cores()) if use_processes else 1
    if restart and not use_processes:
        num_workers = config.num_envs  # one that restarts does not interrupt the others
    workers: list[RestartingWorker] = []
    with ExitStack() as stack:
        for numbers in np.array_split(np.arange(config.num_envs), num_workers):
            start = functools.partial(_start_worker, config, seed, factory, numbers.tolist(), use_processes)
            workers.append(RestartingWorker(start, restart))
            stack.callback(workers[-1].close)
        env = VectorEnv(workers, config.action_repeat)
        stack.pop_all()
    return env


def make_gym_env(config: EnvConfig, factory: EnvFactory | None = None, render_mode: str | None = None) -> Env:
    """Create one environment as a plain `gymnasium.Env`, with the action repeat and time limit of a configuration.

    Args:
        config: which environment, and the settings of an agent step.
        factory: creates the environment in place of `config.name`.
        render_mode: Gymnasium's, `human` or `rgb_array`.

    Raises:
        EnvError: as `make_env`, and if the environment does not have that render mode.
    """
    env = create_env(config, factory, render_mode)
    env = RepeatAction(env, repeat) if (repeat := _action_repeat(config, env)) > 1 else env
    return TimeLimit(env, config.time_limit) if config.time_limit else env


def env_spec(config: EnvConfig, factory: EnvFactory | None = None) -> EnvSpec:
    """Return the spec of an environment, without using up an instance that a user passed."""
    wrap = functools.partial(StepWrapper, seed=0, image_keys=config.image_keys, vector_keys=config.vector_keys)
    if isinstance(factory, InstanceFactory):
        return wrap(factory.env).spec
    with closing(wrap(create_env(config, factory))) as wrapper:
        return wrapper.spec


def create_env(config: EnvConfig, factory: EnvFactory | None = None, render_mode: str | None = None) -> Env:
    """Create one environment as a user knows it; `make_gym_env` has the arguments."""
    env = _from_name(config, render_mode) if factory is None else _from_factory(factory, render_mode)
    modes = env.metadata.get("render_modes") or [env.render_mode]
    if render_mode is not None and (env.render_mode != render_mode or render_mode not in modes):
        raise EnvError(
            f"{env_name(env)} has no render mode {render_mode}. It cannot be shown. Let its class take render_mode, "
            "and list it in metadata['render_modes']."
        )
    return env


def _start_worker(
    config: EnvConfig, seed: int, factory: EnvFactory | None, numbers: list[int], use_processes: bool, num_restarts: int
) -> Worker:
    builders = [functools.partial(_build, config, seed, factory, number, num_restarts) for number in numbers]
    if not use_processes:
        return SyncWorker(builders)
    label = f"environments {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"environment {numbers[0]}"
    return ProcessWorker(builders, label, config.step_timeout)


def _build(config: EnvConfig, seed: int, factory: EnvFactory | None, number: int, num_restarts: int) -> StepWrapper:
    env = create_env(config, factory)
    entropy = (seed, number, num_restarts) if num_restarts else (seed, number)
    env_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    label = f" ({number + 1} of {config.num_envs})" if config.num_envs > 1 else ""
    repeat, keys = _action_repeat(config, env), (config.image_keys, config.vector_keys)
    return StepWrapper(env, env_seed, repeat, config.time_limit, label, *keys)


def _action_repeat(config: EnvConfig, env: Env) -> int:
    """Return how often a wrapper repeats actions; Atari games, ale-py's own too, repeat them themselves."""
    if env.spec is not None and env.spec.entry_point == atari.ENTRY_POINT and env.spec.kwargs.get("frameskip") != 1:
        return 1
    return 1 if isinstance(env.unwrapped, atari.Atari) else config.action_repeat


def _name(factory: EnvFactory) -> str:
    name = getattr(factory, "name", None) or getattr(factory, "__qualname__", type(factory).__name__)
    return str(name).rsplit(".", 1)[-1]


def _from_factory(factory: EnvFactory, render_mode: str | None) -> Env:
    options: dict[str, Any] = {}
    if render_mode is not None:
        with suppress(TypeError, ValueError):
            inspect.signature(factory).bind(render_mode=render_mode)
            options = {"render_mode": render_mode}
    try:
        env = factory(**options)
    except EnvError:
        raise
    except Exception as error:
        raise EnvError(
            f"{_name(factory)} could not create the environment: {type(error).__name__}: {error}."
        ) from error
    if not isinstance(env, gymnasium.Env):
        raise EnvError(
            f"{_name(factory)} created a {type(env).__module__}.{type(env).__name__}, which is no gymnasium.Env; "
            "environments of the older Gym can be wrapped with the package shimmy."
        )
    return env


def _from_name(config: EnvConfig, render_mode: str | None) -> Env:
    spec = find_spec(config.name)
    if spec.entry_point == atari.ENTRY_POINT and spec.namespace == "ALE":
        return atari.Atari(spec.kwargs["game"], config, render_mode)
    if spec.entry_point == minatar.ENTRY_POINT:
        return minatar.MinAtar(spec.kwargs["game"], spec.kwargs["use_minimal_action_set"], render_mode)
    # env.time_limit replaces the registered limit; -1 removes that.
    limit = -1 if config.time_limit else None
    options = {} if render_mode is None else {"render_mode": render_mode}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            # Returned values are checked by `StepWrapper`, with better messages.
            return gymnasium.make(spec, limit, disable_env_checker=True, **options)
    except Exception as error:
        raise EnvError(f"{config.name} could not be created: {error}.{install_hint(spec)}") from error


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
