"""Step one Gymnasium environment with the agent's actions.

An environment with the methods `save_state() -> dict of arrays` and `load_state(dict)`, such as our Atari and MinAtar,
saves and loads its state itself. Every other one replays its latest episode: from the state of its random generator at
the reset, with the actions in the replay. Its steps are then compared with those of the first time, so that an
environment that is not deterministic is detected.
"""

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np

from reverie.envs.space_json import adapt
from reverie.envs.spaces import LARGEST, InvalidStepError
from reverie.errors import EnvError
from reverie.specs import Array, Step

Env = gymnasium.Env[Any, Any]

FIRST_STEP = {"reward": 0.0, "is_first": True, "is_last": False, "is_terminal": False}
"""Entries of the first step of an episode, without its observation."""


@dataclass(frozen=True)
class EnvState:
    """State of one environment."""

    episode: int = 0
    """Number of its latest episode; 0 before the first one."""
    step: int = 0
    """Agent steps in that episode."""
    running: bool = False
    """True until the episode ends."""
    seed: int | None = None
    """Seed of its latest reset."""
    random: Any = None
    """State of its `np_random` before that reset, as `Generator.bit_generator.state`; None if it has none."""
    own: dict[str, Array] | None = None
    """Result of `save_state`; None for an environment without it."""


class RepeatAction(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that takes each action `times` times and sums the rewards; fewer where the episode ends."""

    def __init__(self, env: Env, times: int) -> None:
        super().__init__(env)
        self._times = times

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Repeat an action."""
        total = 0.0
        for _ in range(self._times):
            observation, reward, terminated, truncated, info = _check_step(self.env.step(action))
            total += reward
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


class StepWrapper:
    """Converts spaces, repeats actions, limits episodes, and checks every value that the environment returns.

    Whatever fails is raised as an `EnvError` that names environment, episode and step.

    Args:
        env: the environment; closed by the wrapper.
        seed: seed of the first reset; later ones have none.
        action_repeat: environment steps per agent step.
        time_limit: agent steps after which an episode is truncated; 0 for none.
        label: appended to the environment's name in messages, for example " (1 of 4)".
        image_keys: observations that are images, and
        vector_keys: those that are vectors, see `ObservationAdapter`.

    Attributes:
        spec: observations and actions as the agent sees them.
        last_info: `info` of the latest step.
    """

    def __init__(
        self,
        env: Env,
        seed: int,
        action_repeat: int = 1,
        time_limit: int = 0,
        label: str = "",
        image_keys: Sequence[str] = (),
        vector_keys: Sequence[str] = (),
    ) -> None:
        self._env = env
        self._repeated = RepeatAction(env, action_repeat)
        self._name = env_name(env) + label
        self._first_seed = seed
        self._next_seed: int | None = seed
        self._at_reset = EnvState()  # seed and random generator of the latest reset
        self._time_limit = time_limit
        native = env.observation_space, env.action_space
        self._observe, self._act, self.spec = adapt(*native, self._name, image_keys, vector_keys)
        self.last_info: dict[str, Any] = {}
        self._episode, self._step, self._is_running = 0, 0, False

    def reset(self) -> dict[str, Any]:
        """Start an episode and return its first step, without a leading axis; numbers are plain."""
        self._episode += 1
        seed, self._next_seed = self._next_seed, None
        return self._guard(self._begin_episode, seed)

    def step(self, action: Array) -> dict[str, Any]:
        """Take one agent action `[A]` and return the step, as `reset`."""
        if not self._is_running:
            raise self._error("the episode is over (or none was started): reset before the next step")
        self._step += 1
        return self._guard(self._take_step, action)

    def get_state(self) -> EnvState:
        """Return the state of the environment."""
        state = self._at_reset
        if self._episode and hasattr(self._env, "save_state") and hasattr(self._env, "load_state"):
            state = EnvState(own=self._guard(_save_state, self._env))
        return replace(state, episode=self._episode, step=self._step, running=self._is_running)

    def set_state(self, state: EnvState) -> bool:
        """Continue another environment of the same kind; return False if `replay` must take it there."""
        self._episode, self._next_seed, self._at_reset = state.episode, None, state
        if state.own is None:
            return False
        self._guard(_load_state, self._env, state.own)
        self._step, self._is_running = state.step, state.running
        return True

    def replay(self, steps: Step) -> None:
        """Take steps `[K, …]` of the latest episode again; raise EnvError where they differ from the first time."""
        for index, is_first in enumerate(steps["is_first"]):
            if is_first:
                found = self._guard(self._begin_episode, self._at_reset.seed, self._at_reset.random)
            else:
                found = self.step(steps["action"][index])
            for key, value in found.items():
                if not np.array_equal(np.asarray(value, steps[key].dtype), steps[key][index]):
                    raise EnvError("it is not deterministic: its steps depend on more than seed, np_random and actions")

    def discard_episode(self) -> None:
        """Leave the latest episode; the next one begins with the wrapper's own seed."""
        self._is_running, self._next_seed = False, self._first_seed

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _begin_episode(self, seed: int | None, random: Any = None) -> dict[str, Any]:
        self._step = 0
        generator = getattr(self._env.unwrapped, "np_random", None)
        if isinstance(generator, np.random.Generator):
            if random is not None:
                generator.bit_generator.state = random
            random = deepcopy(generator.bit_generator.state)
        self._at_reset = EnvState(seed=seed, random=random)
        result = self._env.reset(seed=seed)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise InvalidStepError("reset() did not return (observation, info)")
        self._is_running = True
        return {**self._observe(result[0]), **FIRST_STEP}

    def _take_step(self, action: Array) -> dict[str, Any]:
        observation, reward, terminated, truncated, self.last_info = self._repeated.step(self._act(action))
        is_last = terminated or truncated or 0 < self._time_limit <= self._step
        self._is_running = not is_last
        flags = {"is_first": False, "is_last": is_last, "is_terminal": terminated}
        return {**self._observe(observation), "reward": reward, **flags}

    def _guard(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except InvalidStepError as error:
            raise self._error(str(error)) from None
        except (Exception, SystemExit) as error:  # an environment that calls exit() would end the training unsaved
            frame = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"it raised {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
            raise self._error(reason) from error

    def _error(self, reason: str) -> EnvError:
        when = f"episode {self._episode}, " + (f"step {self._step}" if self._step else "reset")
        return EnvError(f"Environment {self._name}, {when}: {reason}.")


def env_name(env: Any) -> str:
    """Return the registered id of an environment, or the name of its class."""
    if env.spec is not None:
        return getattr(env.spec, "id", type(env).__name__)  # EnvPool's specs have no id
    inner = getattr(env.unwrapped, "wrapped", env.unwrapped)  # an environment of dm_env or the older Gym
    return type(getattr(inner, "unwrapped", inner)).__name__


def _check_step(result: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    if not (isinstance(result, tuple) and len(result) == 5 and isinstance(result[4], dict)):
        found = f"{len(result)} values" if isinstance(result, tuple) else f"a {type(result).__name__}"
        found = f"a {type(result[4]).__name__} as info" if found == "5 values" else found
        raise InvalidStepError(f"step() returned {found} instead of (observation, reward, terminated, truncated, info)")
    observation, reward, terminated, truncated, info = result
    try:
        flags = bool(terminated), bool(truncated)
    except ValueError:
        raise InvalidStepError(f"terminated is {terminated!r} and truncated {truncated!r}, not one bool each") from None
    return observation, check_reward(reward), *flags, info


def check_reward(reward: Any) -> float:
    """Return a reward as a finite number, or raise an `InvalidStepError`."""
    try:
        number = float(reward.item() if isinstance(reward, np.ndarray) and reward.size == 1 else reward)
    except (TypeError, ValueError):
        raise InvalidStepError(f"the reward is {reward!r}, which is no number") from None
    if not abs(number) <= LARGEST:
        raise InvalidStepError(f"the reward is {number}")
    return number


def _save_state(env: Any) -> dict[str, Array]:
    saved = env.save_state()
    if not isinstance(saved, dict) or not all(isinstance(name, str) for name in saved):
        raise InvalidStepError("save_state did not return a dict of arrays by name")
    arrays = {name: np.asarray(value) for name, value in saved.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biufc":
            raise InvalidStepError(f"save_state returned '{name}', which is no array of numbers")
    return arrays


def _load_state(env: Any, state: Mapping[str, Array]) -> None:
    env.load_state(state)
    loaded = _save_state(env)
    if loaded.keys() != state.keys() or any((loaded[name] != state[name]).any() for name in state):
        raise InvalidStepError("save_state does not return what load_state was given")


def random_state(generator: np.random.Generator) -> Array:
    """Return the state of an environment's `np_random` as uint8 `[n]`, for `save_state`."""
    return np.frombuffer(json.dumps(generator.bit_generator.state).encode(), np.uint8)


def set_random_state(generator: np.random.Generator, state: Array) -> None:
    """Set a generator in place to a result of `random_state` for one of the same kind."""
    generator.bit_generator.state = json.loads(state.tobytes())
