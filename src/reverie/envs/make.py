"""Create vectors of environments, and find out what one observes."""

import functools
from contextlib import ExitStack, closing
from typing import Any

import cv2
import numpy as np

from reverie.config import EnvConfig
from reverie.envs.create import action_repeat, create_env, observe
from reverie.envs.factories import EnvFactory, InstanceFactory, call
from reverie.envs.gym_vector import GymVectorWorker, VectorEnvError, num_vector_envs
from reverie.envs.step_wrapper import Env, StepWrapper
from reverie.envs.vector import RestartingWorker, VectorEnv, Worker
from reverie.envs.workers import IS_SUPPORTED, ProcessWorker, SyncWorker
from reverie.errors import EnvError
from reverie.provenance import usable_cores
from reverie.specs import EnvSpec


def make_env(config: EnvConfig, seed: int, factory: EnvFactory | None = None, restart: bool = False) -> VectorEnv:
    """Create `config.num_envs` environments that are stepped together.

    Environment i is seeded with `SeedSequence((seed, i))` at its first reset; everything after follows from that, and
    is the same in worker processes (`config.parallel`) as without them. One that is restarted has another seed.

    OpenCV is set to one thread: its threads would take the cores from the learner.

    Args:
        config: which environment, how many, and the settings of an agent step.
        seed: of all environments; not negative.
        factory: creates the environment in place of `config.name`. Sent to worker processes by cloudpickle. A vector
            environment (of `gymnasium.vector` or EnvPool) stays in this process and has its own number of them.
        restart: restart environments that fail, see `RestartingWorker`; otherwise, and where one instance was passed,
            the first failure is an error.

    Raises:
        EnvError: if the environment is unknown, cannot be created, or has unsupported spaces.
    """
    cv2.setNumThreads(0)
    if isinstance(factory, InstanceFactory):
        restart = False
        if config.num_envs > 1 and not num_vector_envs(factory.env):
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
        try:
            for numbers in np.array_split(np.arange(config.num_envs), num_workers):
                start = functools.partial(_start_worker, config, seed, factory, numbers.tolist(), use_processes)
                workers.append(RestartingWorker(start, restart))
                stack.callback(workers[-1].close)
            env = VectorEnv(workers, config.action_repeat)
        except VectorEnvError as error:
            start = functools.partial(_start_vector, config, seed, factory, error.env)
            env = VectorEnv([RestartingWorker(start, restart)])
        stack.pop_all()
    return env


def env_spec(config: EnvConfig, factory: EnvFactory | None = None) -> EnvSpec:
    """Return the spec of an environment, without using up an instance that a user passed."""
    instance = factory.env if isinstance(factory, InstanceFactory) else None
    if num_vector_envs(instance):
        return GymVectorWorker(instance, config, 0).wait_ready()
    wrap = functools.partial(StepWrapper, seed=0, image_keys=config.image_keys, vector_keys=config.vector_keys)
    if instance is not None:
        return wrap(observe(config, instance, factory)).spec
    try:
        with closing(wrap(create_env(config, factory))) as wrapper:
            return wrapper.spec
    except VectorEnvError as error:
        with closing(GymVectorWorker(error.env, config, 0)) as worker:
            return worker.wait_ready()


def _start_worker(
    config: EnvConfig, seed: int, factory: EnvFactory | None, numbers: list[int], use_processes: bool, num_restarts: int
) -> Worker:
    builders = [functools.partial(_build, config, seed, factory, number, num_restarts) for number in numbers]
    if not use_processes:
        return SyncWorker(builders)
    label = f"environments {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"environment {numbers[0]}"
    return ProcessWorker(builders, label, config.step_timeout)


def _start_vector(config: EnvConfig, seed: int, factory: EnvFactory | None, first: Any, num_restarts: int) -> Worker:
    env: Any = first if not num_restarts or factory is None else call(factory)
    return GymVectorWorker(env, config, _seed(seed, 0, num_restarts))


def _build(config: EnvConfig, seed: int, factory: EnvFactory | None, number: int, num_restarts: int) -> StepWrapper:
    label = f" ({number + 1} of {config.num_envs})" if config.num_envs > 1 else ""
    return wrap_env(config, create_env(config, factory), _seed(seed, number, num_restarts), label)


def wrap_env(config: EnvConfig, env: Env, seed: int, label: str = "") -> StepWrapper:
    """Return an environment of `create_env` with the agent's observations and actions."""
    repeat, keys = action_repeat(config, env), (config.image_keys, config.vector_keys)
    return StepWrapper(env, seed, repeat, config.time_limit, label, *keys)


def _seed(seed: int, number: int, num_restarts: int) -> int:
    entropy = (seed, number, num_restarts) if num_restarts else (seed, number)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
