"""Environments by name, instance or function."""

import copy
import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

from reverie.config import EnvConfig
from reverie.envs import atari, minatar
from reverie.envs.atari import Atari
from reverie.envs.batched import BatchedEnv, Group, LocalGroup
from reverie.envs.catalog import find_spec, install_hint
from reverie.envs.minatar import MinAtar
from reverie.envs.repeat import RepeatAction
from reverie.envs.runner import EnvRunner
from reverie.envs.spaces import env_name
from reverie.envs.supervised import Supervised
from reverie.envs.workers import SUPPORTED, RemoteGroup
from reverie.errors import EnvError
from reverie.provenance import usable_cores
from reverie.specs import EnvSpec

EnvFactory = Callable[[], gymnasium.Env[Any, Any]]
"""A function, or class, that creates a new environment at every call."""


def make_env(config: EnvConfig, seed: int, factory: EnvFactory | None = None, supervised: bool = False) -> BatchedEnv:
    """Create `config.num_envs` environments that are stepped together.

    Environment i is seeded with `SeedSequence((seed, i))` at its first reset; everything after follows from that, and
    is the same in worker processes (`config.parallel`) as without them. One that is made anew after a failure has
    another seed.

    OpenCV is told to use one thread: its threads would take the cores from the learner.

    Args:
        config: which environment, how many, and the settings of an agent step.
        seed: of all environments; not negative.
        factory: creates the environment in place of `config.name`. Sent to worker processes by cloudpickle.
        supervised: make environments anew that fail, see `Supervised`; otherwise, and where one instance was passed,
            the first failure is an error.

    Raises:
        EnvError: if the environment is unknown, cannot be created, or has unsupported spaces.
    """
    cv2.setNumThreads(0)
    if isinstance(factory, InstanceFactory) and config.num_envs > 1:
        raise EnvError(
            f"env.num_envs is {config.num_envs}, but one instance of {factory.name} was passed; pass a function that "
            "creates the environment instead."
        )
    supervised = supervised and not isinstance(factory, InstanceFactory)
    in_workers = SUPPORTED and config.parallel and (config.num_envs > 1 or config.step_timeout > 0)
    # In this process, one that is made anew leaves the others alone.
    count = min(config.num_envs, usable_cores()) if in_workers else config.num_envs if supervised else 1
    chunks: list[list[int]] = [chunk.tolist() for chunk in np.array_split(np.arange(config.num_envs), count)]
    groups: list[Group] = []
    try:
        for chunk in chunks:
            start = functools.partial(_start_group, config, seed, factory, chunk, in_workers)
            groups.append(Supervised(start, len(chunk)) if supervised else start(0))
        for group in groups:
            group.wait_ready()
    except BaseException:
        for group in groups:
            group.close()
        raise
    return BatchedEnv(groups, [len(chunk) for chunk in chunks], config.action_repeat)


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
    """What an environment offers, without using up an instance that a user passed.

    Raises:
        EnvError: as `make_env`.
    """
    if isinstance(factory, InstanceFactory):
        return factory.spec
    with make_env(replace(config, num_envs=1), 0, factory) as env:
        return env.spec


def as_factory(env: Any) -> tuple[str, EnvFactory | None]:
    """Name of an environment, and the function for `make_env`, from whatever a user passes.

    Args:
        env: a Gymnasium id, which needs no function; or an instance, which is used as it is once, and copied where a
            second environment is needed (evaluation); or a function or class, called for every environment.

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
    """Hands out an instance, then copies of it; one at a time, so that batches of several are refused."""

    single = True

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self._env = env
        self._used = False
        self.name = env_name(env)

    @property
    def spec(self) -> EnvSpec:
        """Of the instance, which is neither reset nor closed for it."""
        return EnvRunner(self._env, seed=0).spec

    def __call__(self) -> gymnasium.Env[Any, Any]:
        """The instance at the first call, a deep copy at every further one.

        Raises:
            EnvError: if it cannot be copied.
        """
        if not self._used:
            self._used = True
            return self._env
        try:
            return copy.deepcopy(self._env)
        except Exception as error:
            raise EnvError(
                f"Training and evaluation need separate environments, but {self.name} cannot be copied ({error}); "
                "pass a function that creates the environment instead."
            ) from error


def _start_group(
    config: EnvConfig, seed: int, factory: EnvFactory | None, numbers: list[int], in_worker: bool, attempt: int
) -> LocalGroup | RemoteGroup:
    """Begin to create some environments of a batch, for the first time (attempt 0) or anew."""
    builders = [functools.partial(_build, config, _env_seed(seed, i, attempt), i, factory) for i in numbers]
    if not in_worker:
        return LocalGroup(builders)
    label = f"environments {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"environment {numbers[0]}"
    return RemoteGroup(builders, label, config.step_timeout)


def _build(config: EnvConfig, seed: int, index: int, factory: EnvFactory | None) -> EnvRunner:
    """One environment of a batch."""
    if factory is not None:
        env, repeat = _from_factory(factory), config.action_repeat
    else:
        env, repeat = _from_name(config)
    label = f" ({index + 1} of {config.num_envs})" if config.num_envs > 1 else ""
    return EnvRunner(env, seed, repeat, config.time_limit, config.image_size, label)


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
    """The environment of an id, and how often a runner must repeat actions (Atari games do that themselves)."""
    spec = find_spec(config.name)
    if spec.entry_point == atari.ENTRY_POINT:
        return _atari(config, spec, render_mode), 1
    if spec.entry_point == minatar.ENTRY_POINT:
        game, minimal = spec.kwargs["game"], spec.kwargs["use_minimal_action_set"]
        return MinAtar(game, minimal, config.image_size, render_mode), config.action_repeat
    # A time limit of ours replaces the registered one; -1 removes that.
    limit = -1 if config.time_limit else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            # Returned values are checked by the runner, with better messages.
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


def _env_seed(seed: int, index: int, attempt: int) -> int:
    entropy = (seed, index, attempt) if attempt else (seed, index)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
