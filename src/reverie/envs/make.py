"""Create environments by name, instance or function."""

import copy
import functools
import inspect
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

from reverie.config import EnvConfig
from reverie.envs import atari, minatar
from reverie.envs.atari import Atari
from reverie.envs.catalog import find_spec, install_hint
from reverie.envs.minatar import MinAtar
from reverie.envs.process_worker import IS_SUPPORTED, ProcessWorker
from reverie.envs.repeat import RepeatAction
from reverie.envs.restarting_worker import RestartingWorker
from reverie.envs.spaces import env_name
from reverie.envs.step_wrapper import StepWrapper
from reverie.envs.vector import VectorEnv
from reverie.envs.workers import SyncWorker, Worker
from reverie.errors import EnvError
from reverie.provenance import usable_cores
from reverie.specs import EnvSpec

EnvFactory = Callable[[], gymnasium.Env[Any, Any]]
"""A function, or class, that creates a new environment at every call."""


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
    workers: list[Worker] = []
    with ExitStack() as stack:
        for numbers in np.array_split(np.arange(config.num_envs), num_workers):
            start = functools.partial(_start_worker, config, seed, factory, numbers.tolist(), use_processes)
            workers.append(RestartingWorker(start) if restart else start(0))
            stack.callback(workers[-1].close)
        env = VectorEnv(workers, config.action_repeat)
        stack.pop_all()
    return env


def make_gym_env(
    config: EnvConfig, factory: EnvFactory | None = None, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """Create one environment as a plain `gymnasium.Env`, with the action repeat and time limit of a configuration.

    Args:
        config: which environment, and the settings of an agent step.
        factory: creates the environment in place of `config.name`.
        render_mode: Gymnasium's, `human` or `rgb_array`.

    Raises:
        EnvError: as `make_env`, and if the environment does not have that render mode.
    """
    if factory is None:
        env, repeat = _from_name(config, render_mode)
    else:
        env, repeat = _from_factory(_with_render_mode(factory, render_mode)), config.action_repeat
    modes = env.metadata.get("render_modes") or [env.render_mode]
    if render_mode is not None and (env.render_mode != render_mode or render_mode not in modes):
        raise EnvError(
            f"{env_name(env)} has no render mode {render_mode}. It cannot be shown. Let its class take render_mode, "
            "and list it in metadata['render_modes']."
        )
    # Atari games, ale-py's own too, repeat actions themselves.
    is_atari = env.spec is not None and env.spec.entry_point == atari.ENTRY_POINT
    if repeat > 1 and not is_atari:
        env = RepeatAction(env, repeat)
    return TimeLimit(env, config.time_limit) if config.time_limit else env


def _with_render_mode(factory: EnvFactory, render_mode: str | None) -> EnvFactory:
    make: Callable[..., gymnasium.Env[Any, Any]] = factory
    if render_mode is None:
        return factory
    try:
        inspect.signature(make).bind(render_mode=render_mode)
    except (TypeError, ValueError):  # it may have one already
        return factory
    return functools.wraps(factory)(lambda: make(render_mode=render_mode))


def env_spec(config: EnvConfig, factory: EnvFactory | None = None) -> EnvSpec:
    """Return the spec of an environment, without using up an instance that a user passed.

    Raises:
        EnvError: as `make_env`.
    """
    if isinstance(factory, InstanceFactory):
        return factory.spec
    with make_env(replace(config, num_envs=1), 0, factory) as env:
        return env.spec


def as_factory(env: Any) -> tuple[str, EnvFactory | None]:
    """Return the name of an environment and the function for `make_env`.

    Args:
        env: a Gymnasium id, which needs no function; or an instance, which is used once, and copied for a second
            environment (evaluation); or a function or class, called for every environment.

    Raises:
        EnvError: if it is something else.
    """
    if isinstance(env, str):
        return env, None
    if isinstance(env, gymnasium.Env):
        return env_name(env), InstanceFactory(env)
    if callable(env):
        name = getattr(env, "__qualname__", None) or type(env).__name__
        return name.rsplit(".", 1)[-1], env
    raise EnvError(
        f"An environment must be a Gymnasium id, a gymnasium.Env, or a function that creates one, "
        f"not {type(env).__name__}."
    )


class InstanceFactory:
    """Returns an instance at the first call and deep copies of it later."""

    single = True

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self._env = env
        self._is_used = False
        self.name = env_name(env)

    @property
    def spec(self) -> EnvSpec:
        """Spec of the instance, which is neither reset nor closed."""
        return StepWrapper(self._env, seed=0).spec

    def __call__(self) -> gymnasium.Env[Any, Any]:
        """Return the instance, or a copy.

        Raises:
            EnvError: if it cannot be copied.
        """
        if not self._is_used:
            self._is_used = True
            return self._env
        try:
            return copy.deepcopy(self._env)
        except Exception as error:
            raise EnvError(
                f"Training and evaluation need separate environments, but {self.name} cannot be copied ({error}); "
                "pass a function that creates the environment instead."
            ) from error


def _start_worker(
    config: EnvConfig, seed: int, factory: EnvFactory | None, numbers: list[int], use_processes: bool, num_restarts: int
) -> Worker:
    builders = []
    for number in numbers:
        entropy = (seed, number, num_restarts) if num_restarts else (seed, number)
        env_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        builders.append(functools.partial(_build, config, env_seed, number, factory))
    if not use_processes:
        return SyncWorker(builders)
    label = f"environments {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"environment {numbers[0]}"
    return ProcessWorker(builders, label, config.step_timeout)


def _build(config: EnvConfig, seed: int, number: int, factory: EnvFactory | None) -> StepWrapper:
    env, repeat = _from_name(config) if factory is None else (_from_factory(factory), config.action_repeat)
    label = f" ({number + 1} of {config.num_envs})" if config.num_envs > 1 else ""
    return StepWrapper(env, seed, repeat, config.time_limit, config.image_size, label)


def _from_factory(factory: EnvFactory) -> gymnasium.Env[Any, Any]:
    name = getattr(factory, "name", None) or getattr(factory, "__qualname__", type(factory).__name__)
    try:
        env = factory()
    except EnvError:
        raise
    except Exception as error:
        raise EnvError(f"{name} could not create the environment: {type(error).__name__}: {error}.") from error
    if not isinstance(env, gymnasium.Env):
        raise EnvError(
            f"{name} created a {type(env).__module__}.{type(env).__name__}, which is no gymnasium.Env; environments "
            "of the older Gym can be wrapped with the package shimmy."
        )
    return env


def _from_name(config: EnvConfig, render_mode: str | None = None) -> tuple[gymnasium.Env[Any, Any], int]:
    """Return the environment of an id and how often its wrapper repeats actions; Atari games repeat them themselves."""
    spec = find_spec(config.name)
    if spec.entry_point == atari.ENTRY_POINT:
        return _atari(config, spec, render_mode), 1
    if spec.entry_point == minatar.ENTRY_POINT:
        game, minimal = spec.kwargs["game"], spec.kwargs["use_minimal_action_set"]
        return MinAtar(game, minimal, config.image_size, render_mode), config.action_repeat
    # env.time_limit replaces the registered limit; -1 removes that.
    limit = -1 if config.time_limit else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            # Returned values are checked by `StepWrapper`, with better messages.
            options = {} if render_mode is None else {"render_mode": render_mode}
            env = gymnasium.make(spec, limit, disable_env_checker=True, **options)
    except Exception as error:
        hint = install_hint(spec)
        advice = f" Type: {hint}" if hint else ""
        raise EnvError(f"{config.name} could not be created: {error}.{advice}") from error
    return env, config.action_repeat


def _atari(config: EnvConfig, spec: gymnasium.envs.registration.EnvSpec, render_mode: str | None) -> Atari:
    if spec.namespace != "ALE" and spec.version in (0, 4):
        game = spec.name.removesuffix("NoFrameskip")
        raise EnvError(
            f"{config.name} fixes frame skip and stickiness itself; use ALE/{game}-v5, where env.action_repeat and "
            "env.sticky_actions set them."
        )
    return Atari(
        spec.kwargs["game"],
        action_repeat=config.action_repeat,
        sticky_actions=config.sticky_actions,
        noops=config.noop_max,
        grayscale=config.grayscale,
        full_action_space=config.full_action_space,
        image_size=config.image_size,
        mode=spec.kwargs.get("mode"),
        difficulty=spec.kwargs.get("difficulty"),
        render_mode=render_mode,
    )
