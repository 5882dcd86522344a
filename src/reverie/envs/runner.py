"""One environment, stepped by an agent: Gymnasium in, steps as in `specs.py` out."""

import traceback
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from reverie.envs.checks import Complaint, check_reset_result, check_step_result
from reverie.envs.space_json import env_spaces
from reverie.envs.spaces import ActionAdapter, ObservationAdapter, env_name
from reverie.envs.state import EnvState, SavesState, fingerprint, generator_of
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec, Step


class EnvRunner:
    """Steps one environment: converts spaces, repeats actions, limits time, checks what comes back.

    Args:
        env: the environment; the runner closes it.
        seed: given to the environment's first reset, and only there; also to the one after it could not be put back.
        action_repeat: environment steps per agent step, with rewards summed; fewer where an episode ends.
        time_limit: agent steps after which an episode is truncated; 0 for none.
        image_size: height and width of images.
        label: appended to the environment's name in messages, for example " (1 of 4)".

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
        self._fresh_seed = seed
        self._seed: int | None = seed
        self._began = EnvState()
        """Seed and random generator at the latest reset."""
        self._action_repeat = action_repeat
        self._time_limit = time_limit
        self._observe = ObservationAdapter(env.observation_space, self._name, image_size)
        self._act = ActionAdapter(env.action_space, self._name)
        self.spec = EnvSpec(self._observe.specs, self._act.spec, env_spaces(env))
        self._episode = 0
        self._step = 0
        self._running = False

    def reset(self) -> Step:
        """Start an episode; its first step, without a leading axis.

        Raises:
            EnvError: if the environment fails, or returns what does not fit its spaces.
        """
        self._episode += 1
        seed, self._seed = self._seed, None
        return self._begin(seed)

    def _begin(self, seed: int | None) -> Step:
        self._step = 0
        generator = generator_of(self._env)
        self._began = EnvState(seed=seed, random=generator and deepcopy(generator.bit_generator.state))
        result = self._guard(lambda: self._env.reset(seed=seed))
        try:
            observation = self._observe(check_reset_result(result))
        except Complaint as complaint:
            raise self._error(str(complaint)) from None
        self._running = True
        return _step(observation, 0.0, first=True, last=False, terminal=False)

    def step(self, action: Array) -> Step:
        """Take one agent action `[A]`.

        Raises:
            EnvError: as `reset`, and if the episode is over.
        """
        if not self._running:
            raise self._error("the episode is over (or none was started): reset before the next step")
        self._step += 1
        native = self._act(action)
        total = 0.0
        for _ in range(self._action_repeat):
            result = self._guard(lambda: self._env.step(native))
            try:
                observation, reward, terminated, truncated = check_step_result(result)
            except Complaint as complaint:
                raise self._error(str(complaint)) from None
            total += reward
            if terminated or truncated:
                break
        try:
            converted = self._observe(observation)
        except Complaint as complaint:
            raise self._error(str(complaint)) from None
        last = terminated or truncated or 0 < self._time_limit <= self._step
        self._running = not last
        return _step(converted, total, first=False, last=last, terminal=terminated)

    def state(self) -> EnvState:
        """Where the environment stands."""
        if self._episode and isinstance(self._env, SavesState):
            return EnvState(self._episode, self._step, self._running, own=self._own_state(self._env))
        return replace(self._began, episode=self._episode, step=self._step, running=self._running)

    def put_back(self, state: EnvState) -> bytes:
        """Go where an environment of the same kind stood, or to the first step of its latest episode.

        Returns:
            Nothing, if it stands there; else the fingerprint of that first step, and `retrace` must follow.

        Raises:
            EnvError: if it cannot be done.
        """
        self._episode, self._seed, self._began = state.episode, None, state
        if state.own is not None:
            if not isinstance(self._env, SavesState):
                raise self._error("it cannot load a state any more")
            env, own = self._env, state.own
            self._guard(lambda: env.load_state(own))
            self._step, self._running = state.step, state.running
            there = self._own_state(env)
            if there.keys() != own.keys() or any((there[name] != own[name]).any() for name in own):
                raise self._error("save_state does not return what load_state was given")
            return b""
        generator = generator_of(self._env)
        if generator is not None and state.random is not None:
            self._guard(lambda: setattr(generator.bit_generator, "state", state.random))
        return fingerprint(_stacked([self._begin(state.seed)]), self.spec.observations)

    def retrace(self, actions: Array) -> bytes:
        """Take steps `[K, A]` that were taken before; the fingerprint of what the environment shows now.

        Raises:
            EnvError: as `step`.
        """
        return fingerprint(_stacked([self.step(action) for action in actions]), self.spec.observations)

    def abandon(self) -> None:
        """Leave the latest episode; the next one begins with the runner's own seed."""
        self._running, self._seed = False, self._fresh_seed

    def _own_state(self, env: SavesState) -> dict[str, Array]:
        saved: Any = self._guard(env.save_state)
        if not isinstance(saved, dict) or not all(isinstance(name, str) for name in saved):
            raise self._error("save_state did not return a dict of arrays by name")
        arrays = {name: np.asarray(value) for name, value in saved.items()}
        for name, array in arrays.items():
            if array.dtype.kind not in "biufc":
                raise self._error(f"save_state returned '{name}', which is no array of numbers")
        return arrays

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _guard(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (Exception, SystemExit) as error:  # an environment that calls exit() would end the training unsaved
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{frame.filename}:{frame.lineno}"
            raise self._error(f"it raised {type(error).__name__}: {error} ({place})") from error

    def _error(self, what: str) -> EnvError:
        when = f"episode {self._episode}, " + (f"step {self._step}" if self._step else "reset")
        return EnvError(f"Environment {self._name}, {when}: {what}.")


def _stacked(steps: list[Step]) -> Step:
    return {key: np.stack([step[key] for step in steps]) for key in steps[0]}


def _step(observation: dict[str, Array], reward: float, first: bool, last: bool, terminal: bool) -> Step:
    return {
        **observation,
        "reward": np.array(reward, np.float32),
        "is_first": np.array(first),
        "is_last": np.array(last),
        "is_terminal": np.array(terminal),
    }
