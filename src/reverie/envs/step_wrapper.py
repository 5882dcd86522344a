"""Step one Gymnasium environment with the agent's actions."""

import traceback
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from reverie.envs.checks import InvalidStepError, check_reset_result, check_step_result
from reverie.envs.space_json import env_spaces
from reverie.envs.spaces import ActionAdapter, ObservationAdapter, env_name
from reverie.envs.state import EnvState, SavesState, find_generator, fingerprint
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec


class StepWrapper:
    """Converts spaces, repeats actions, limits episodes, and checks every value that the environment returns.

    Args:
        env: the environment; closed by the wrapper.
        seed: seed of the first reset; later ones have none.
        action_repeat: environment steps per agent step, with rewards summed; fewer at an episode's end.
        time_limit: agent steps after which an episode is truncated; 0 for none.
        image_size: height and width of images.
        label: appended to the environment's name in messages, for example " (1 of 4)".

    Attributes:
        spec: observations and actions as the agent sees them.
        last_info: `info` of the latest step.

    Raises:
        EnvError: if a space of the environment is not supported.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        seed: int,
        action_repeat: int = 1,
        time_limit: int = 0,
        image_size: tuple[int, int] = (64, 64),
        label: str = "",
    ) -> None:
        self._env = env
        self._name = env_name(env) + label
        self._first_seed = seed
        self._next_seed: int | None = seed
        self._at_reset = EnvState()  # seed and random generator of the latest reset
        self._action_repeat = action_repeat
        self._time_limit = time_limit
        self._observe = ObservationAdapter(env.observation_space, self._name, image_size)
        self._act = ActionAdapter(env.action_space, self._name)
        self.spec = EnvSpec(self._observe.specs, self._act.spec, env_spaces(env))
        self.last_info: dict[str, Any] = {}
        self._episode = 0
        self._step = 0
        self._is_running = False

    def reset(self) -> dict[str, Any]:
        """Start an episode and return its first step, without a leading axis; numbers are plain.

        Raises:
            EnvError: if the environment fails, or returns values that do not fit its spaces.
        """
        self._episode += 1
        seed, self._next_seed = self._next_seed, None
        return self._begin_episode(seed)

    def step(self, action: Array) -> dict[str, Any]:
        """Take one agent action `[A]` and return the step, as `reset`.

        Raises:
            EnvError: as `reset`, and if the episode has ended.
        """
        if not self._is_running:
            raise self._error("the episode is over (or none was started): reset before the next step")
        self._step += 1
        native = self._act(action)
        total = 0.0
        for _ in range(self._action_repeat):
            result = self._guard(lambda: self._env.step(native))
            observation, reward, terminated, truncated, self.last_info = self._check(check_step_result, result)
            total += reward
            if terminated or truncated:
                break
        is_last = terminated or truncated or 0 < self._time_limit <= self._step
        self._is_running = not is_last
        return self._make_step(observation, total, is_last=is_last, is_terminal=terminated)

    def get_state(self) -> EnvState:
        """Return the state of the environment.

        Raises:
            EnvError: if its `save_state` fails.
        """
        if self._episode and isinstance(self._env, SavesState):
            return EnvState(self._episode, self._step, self._is_running, own=self._save_own_state(self._env))
        return replace(self._at_reset, episode=self._episode, step=self._step, running=self._is_running)

    def set_state(self, state: EnvState) -> bytes | None:
        """Continue another environment of the same kind.

        Returns:
            None if its state is restored; else the fingerprint of its latest episode's first step, from which
            `replay_actions` must continue.

        Raises:
            EnvError: if the state cannot be restored.
        """
        self._episode, self._next_seed, self._at_reset = state.episode, None, state
        if state.own is not None:
            self._load_own_state(state.own)
            self._step, self._is_running = state.step, state.running
            return None
        generator = find_generator(self._env)
        if generator is not None and state.random is not None:
            self._guard(lambda: setattr(generator.bit_generator, "state", state.random))
        return self._fingerprint([self._begin_episode(state.seed)])

    def replay_actions(self, actions: Array) -> bytes:
        """Take actions `[K, A]` of an earlier episode and return the fingerprint of the steps.

        Raises:
            EnvError: as `step`.
        """
        return self._fingerprint([self.step(action) for action in actions])

    def discard_episode(self) -> None:
        """Leave the latest episode; the next one begins with the wrapper's own seed."""
        self._is_running, self._next_seed = False, self._first_seed

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _begin_episode(self, seed: int | None) -> dict[str, Any]:
        self._step = 0
        generator = find_generator(self._env)
        self._at_reset = EnvState(seed=seed, random=generator and deepcopy(generator.bit_generator.state))
        result = self._guard(lambda: self._env.reset(seed=seed))
        observation = self._check(check_reset_result, result)
        step = self._make_step(observation, 0.0, is_first=True)
        self._is_running = True
        return step

    def _make_step(
        self, observation: Any, reward: float, is_first: bool = False, is_last: bool = False, is_terminal: bool = False
    ) -> dict[str, Any]:
        flags = {"is_first": is_first, "is_last": is_last, "is_terminal": is_terminal}
        return {**self._check(self._observe, observation), "reward": reward, **flags}

    def _fingerprint(self, steps: Sequence[dict[str, Any]]) -> bytes:
        return fingerprint({key: [step[key] for step in steps] for key in steps[0]}, self.spec)

    def _save_own_state(self, env: SavesState) -> dict[str, Array]:
        saved: Any = self._guard(env.save_state)
        if not isinstance(saved, dict) or not all(isinstance(name, str) for name in saved):
            raise self._error("save_state did not return a dict of arrays by name")
        arrays = {name: np.asarray(value) for name, value in saved.items()}
        for name, array in arrays.items():
            if array.dtype.kind not in "biufc":
                raise self._error(f"save_state returned '{name}', which is no array of numbers")
        return arrays

    def _load_own_state(self, state: dict[str, Array]) -> None:
        env = self._env
        if not isinstance(env, SavesState):
            raise self._error("it no longer has load_state")
        self._guard(lambda: env.load_state(state))
        loaded = self._save_own_state(env)
        if loaded.keys() != state.keys() or any((loaded[name] != state[name]).any() for name in state):
            raise self._error("save_state does not return what load_state was given")

    def _guard(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (Exception, SystemExit) as error:  # an environment that calls exit() would end the training unsaved
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{frame.filename}:{frame.lineno}"
            raise self._error(f"it raised {type(error).__name__}: {error} ({place})") from error

    def _check(self, check: Callable[[Any], Any], value: Any) -> Any:
        try:
            return check(value)
        except InvalidStepError as error:
            raise self._error(str(error)) from None

    def _error(self, reason: str) -> EnvError:
        when = f"episode {self._episode}, " + (f"step {self._step}" if self._step else "reset")
        return EnvError(f"Environment {self._name}, {when}: {reason}.")
