"""Vector environments of Gymnasium and EnvPool, stepped as they are.

They reset a finished environment themselves, in the next step or in the same one, or leave it to the caller
(`gymnasium.vector.AutoresetMode`; EnvPool: in the next step).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from reverie.config import EnvConfig
from reverie.envs.space_json import adapt
from reverie.envs.spaces import InvalidStepError
from reverie.envs.step_wrapper import FIRST_STEP, EnvState, check_reward, env_name
from reverie.envs.workers import Infos, allocate_rows
from reverie.errors import EnvError, ReverieError
from reverie.specs import Array, EnvSpec


def num_vector_envs(env: Any) -> int | None:
    """Return the number of environments in one of `gymnasium.vector` or EnvPool; None for another object."""
    if isinstance(env, VectorEnv):
        return int(env.num_envs)
    # Older versions of EnvPool claim to be single environments.
    return int(env.config["num_envs"]) if is_envpool(env) else None


def is_envpool(env: Any) -> bool:
    """Return True for an environment of EnvPool, and for a vector wrapper of one."""
    pool = getattr(env, "unwrapped", env)
    return hasattr(pool, "recv") and isinstance(getattr(pool, "config", None), Mapping)


class VectorEnvError(EnvError):
    """A vector environment where a single one is needed."""

    def __init__(self, env: Any) -> None:
        self.env = env
        super().__init__(
            f"{env_name(env)} is a vector environment. It cannot be rendered, or be one of several. Leave env.num_envs "
            "at 1 and env.step_timeout at 0, or give a single environment."
        )


class GymVectorWorker:
    """Steps a vector environment; with the interface of `SyncWorker`.

    The mode NEXT_STEP is also that of environments that do not name one. There `step` returns the first step of a new
    episode (`is_first`) for an environment whose last one has ended, and its action has no effect.

    Args:
        env: the vector environment; closed by the worker.
        config: settings of an agent step.
        seed: seed of the first reset.
    """

    def __init__(self, env: Any, config: EnvConfig, seed: int) -> None:
        self._env, self._seed = env, seed
        self._num_envs = num_vector_envs(env) or 0
        self._name = env_name(env)
        self._has_seed = not is_envpool(env)  # EnvPool takes one when it is created
        if is_envpool(env) and getattr(env, "unwrapped", env).config["batch_size"] not in (0, self._num_envs):
            raise EnvError(f"{self._name} returns some of its environments at a time. Give no batch_size to EnvPool.")
        if not isinstance(env, VectorEnv | gymnasium.Env):
            raise EnvError(f"{self._name} is no environment of Gymnasium. Give env_type='gymnasium' to EnvPool.")
        self._mode = _autoreset_mode(env, self._name)
        self.has_autoreset = self._mode == AutoresetMode.NEXT_STEP
        if isinstance(env, VectorEnv):
            native = env.single_observation_space, env.single_action_space
        else:
            native = env.observation_space, env.action_space
        self._observe, self._act, spec = adapt(*native, self._name, config.image_keys, config.vector_keys)
        settings = {
            "observations": config.observations in ("pixels", "both"),
            "action_repeat": config.action_repeat > 1,
            "time_limit": config.time_limit > 0,
        }
        if unused := ", ".join(f"env.{name}={getattr(config, name)}" for name, is_set in settings.items() if is_set):
            note = f"Vector environments are stepped as they are. Without effect: {unused}."
            spec = replace(spec, notes=(*spec.notes, note))
        self._spec = spec
        self.rows = allocate_rows(spec, self._num_envs)
        self._firsts: dict[int, dict[str, Array]] = {}  # observations after a reset in the same step
        self._ended = np.zeros(self._num_envs, bool)
        self._has_started = False

    def wait_ready(self) -> EnvSpec:
        """Return the spec of each environment."""
        return self._spec

    def send(self, method: str, *args: Any) -> None:
        """Begin `reset`, `step` or `call`."""
        self._request = method, args

    def receive(self) -> Any:
        """Return its result."""
        method, args = self._request
        try:
            return getattr(self, method)(*args)
        except ReverieError:
            raise
        except InvalidStepError as error:
            raise EnvError(f"Environment {self._name}: {error}.") from None
        except (Exception, SystemExit) as error:
            raise EnvError(f"Environment {self._name}: it raised {type(error).__name__}: {error}.") from error

    def reset(self, mask: Array) -> Infos:
        """Reset the environments in a mask `[n]`, at first all of them."""
        firsts: Any = self._firsts
        if not self._has_started:
            firsts = self._split(self._env.reset(**({"seed": self._seed} if self._has_seed else {}))[0])
            self._has_started = True
        elif self._mode != AutoresetMode.SAME_STEP:
            firsts = self._split(self._env.reset(options={"reset_mask": np.asarray(mask)})[0])
        for index in np.flatnonzero(mask).tolist():
            self._store(index, {**firsts[index], **FIRST_STEP})
        self._ended[mask] = False
        return {}

    def step(self, actions: Array) -> Infos:
        """Step every environment with actions `[n, A]`."""
        began = self._ended & self.has_autoreset
        batch = self._act.join([self._act(action) for action in actions])
        observations, rewards, terminated, truncated, infos = self._env.step(batch)
        ended = np.asarray(terminated, bool) | np.asarray(truncated, bool)
        rows = self._split(observations)
        last_infos = {index: _info_of(infos, index, self._num_envs) for index in np.flatnonzero(ended).tolist()}
        for index, info in last_infos.items():
            if self._mode == AutoresetMode.SAME_STEP:
                self._firsts[index] = rows[index]
                rows[index] = self._observe(info.pop("final_obs"))
                info.update(info.pop("final_info", {}))
            elif "final_obs" in info:  # no EnvError, after which it would be restarted
                raise ReverieError(
                    f"{self._name} resets environments in the step that ends an episode. Last observations would be "
                    "lost. Set metadata['autoreset_mode'] to AutoresetMode.SAME_STEP."
                )
        for index, row in enumerate(rows):
            reward = 0.0 if began[index] else check_reward(rewards[index])
            flags = {"is_first": began[index], "is_last": ended[index], "is_terminal": ended[index] & terminated[index]}
            self._store(index, {**row, "reward": reward, **flags})
        self._ended = ended
        return last_infos

    def call(self, index: int, method: str, *args: Any) -> Any:
        """Answer in place of a `StepWrapper`; there is no state to save, so that a resumed run begins episodes."""
        if method == "get_state":
            return EnvState()
        if method == "set_state":
            raise EnvError("environments of one gymnasium.vector.VectorEnv cannot be restored singly")
        return None

    def close(self) -> None:
        """Close the environments."""
        self._env.close()

    def _split(self, observations: Any) -> list[dict[str, Array]]:
        rows = self._observe.split_batch(observations, self._num_envs)
        return [self._observe.convert(row) for row in rows]

    def _store(self, index: int, step: Mapping[str, Any]) -> None:
        for key, value in step.items():
            self.rows[key][index] = value


def _autoreset_mode(env: Any, name: str) -> AutoresetMode:
    mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    try:
        return AutoresetMode(mode)
    except ValueError:
        raise EnvError(
            f"metadata['autoreset_mode'] of {name} is {mode!r}. It cannot be stepped. "
            "Give one of gymnasium.vector.AutoresetMode."
        ) from None


def _info_of(infos: Any, index: int, num_envs: int) -> dict[str, Any]:
    # A Mapping of batches, where `_key` masks the environments that have the entry, or a list of dicts.
    if not isinstance(infos, Mapping):
        return dict(infos[index])
    result: dict[str, Any] = {}
    for key, values in infos.items():
        mask = infos.get(f"_{key}")
        if key.startswith("_") or (_is_batch(mask, num_envs) and not mask[index]):
            continue
        if isinstance(values, Mapping):
            result[key] = _info_of(values, index, num_envs)
        elif _is_batch(values, num_envs):
            result[key] = values[index]
    return result


def _is_batch(values: Any, num_envs: int) -> TypeGuard[Sequence[Any]]:
    return len(values) == num_envs if isinstance(values, list | tuple) else np.shape(values)[:1] == (num_envs,)
