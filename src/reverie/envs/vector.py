"""Several environments of one kind, stepped together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.envs.actions import check_actions
from reverie.envs.gym_vector import GymVectorWorker
from reverie.envs.step_wrapper import EnvState
from reverie.envs.workers import Infos, ProcessWorker, SyncWorker
from reverie.errors import EnvError
from reverie.specs import Array, EnvSpec, Step

Worker = SyncWorker | ProcessWorker | GymVectorWorker
"""All have the same interface: one `receive` follows each `send`."""
FAILED_STEP = {"reward": 0.0, "is_first": False, "is_last": True, "is_terminal": False}
"""Entries of the row of an environment that failed; its observation is that of an earlier step."""


class RestartingWorker:
    """A worker that is replaced by a new one at the first reset after a failure; all its environments restart then.

    An error before the first success is raised: such environments would never work.

    Args:
        start: creates a worker, given the number of those before it.
        restart: False raises every error.
    """

    def __init__(self, start: Callable[[int], Worker], restart: bool) -> None:
        self.errors: list[EnvError] = []
        """Failures after which the environments were restarted."""
        self._start, self._restart = start, restart
        self._worker: Worker | None = start(0)
        self._num_restarts = 0
        self._has_worked = False

    def wait_ready(self) -> EnvSpec:
        """Wait until the environments exist and return their spec."""
        assert self._worker is not None
        spec = self._worker.wait_ready()
        self.rows, self.has_autoreset = self._worker.rows, self._worker.has_autoreset
        self.num_envs = len(self.rows["reward"])
        return spec

    def send(self, method: str, argument: Array) -> None:
        """Begin `reset` or `step`."""
        if self._worker is None and method == "reset":
            self._num_restarts += 1
            try:
                self._worker = self._start(self._num_restarts)
                self.wait_ready()
            except EnvError as error:
                self._fail(error)
        if self._worker is not None:
            self._worker.send(method, argument)

    def receive(self) -> Infos | None:
        """Return the infos; None if an environment failed and all of them are restarted at the next reset."""
        if self._worker is None:
            return None
        try:
            infos: Infos = self._worker.receive()
        except EnvError as error:
            self._fail(error)
            return None
        self._has_worked = True
        return infos

    def call(self, index: int, method: str, *args: Any) -> Any:
        """Return the result of a method of one environment's `StepWrapper`; its errors restart nothing."""
        if self._worker is None:
            raise EnvError("The environments have failed. They restart at the next reset. Call reset first.")
        self._worker.send("call", index, method, *args)
        result = self._worker.receive()
        self._has_worked = True
        return result

    def close(self) -> None:
        """Close the environments."""
        if self._worker is not None:
            self._worker.close()

    def _fail(self, error: EnvError) -> None:
        if not (self._restart and self._has_worked):
            raise error
        self.errors.append(error)
        with suppress(Exception):  # an environment that has failed may fail to close, too
            self.close()
        self._worker = None
        for key, value in FAILED_STEP.items():
            self.rows[key][:] = value


class VectorEnv:
    """N environments of one kind that are stepped together.

    Finished environments are not reset on their own: pass `needs_reset` to `reset` before the next `step`. Unlike
    `gymnasium.vector`, one worker process steps several environments, failed ones can be restarted, and the state of
    each can be saved. Whatever fails in an environment is raised as an `EnvError`.

    Args:
        workers: step the environments.
        frames_per_step: environment frames per agent step (the action repeat).

    Attributes:
        spec: observations and actions of each environment.
        needs_reset: bool `[N]`, environments to reset before the next step; none that reset themselves, whose row of
            the next step is the first one of an episode (`is_first`), and no agent step.
        failed: bool `[N]`, environments whose latest row is no step; they restart at their next reset.
        infos: for each environment the `info` of its latest step, if that ended its episode; else an empty dictionary.
    """

    def __init__(self, workers: Sequence[RestartingWorker], frames_per_step: int = 1) -> None:
        self.spec, *_ = [worker.wait_ready() for worker in workers]
        self.num_workers = len(workers)
        self.frames_per_step = frames_per_step
        borders = np.cumsum([0, *(worker.num_envs for worker in workers)]).tolist()
        self._workers = [(worker, slice(*ends)) for worker, ends in zip(workers, pairwise(borders), strict=True)]
        self.num_envs: int = borders[-1]
        self._has_autoreset = any(worker.has_autoreset for worker in workers)
        self.needs_reset = np.ones(self.num_envs, bool)
        self.failed = np.zeros(self.num_envs, bool)
        self.infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._has_started = False
        self._is_waiting = False  # for an answer, which would pass for the next one if it were never received

    def reset(self, mask: NDArray[np.bool_]) -> Step:
        """Start new episodes in the environments in a mask `[N]`.

        Returns:
            Every observation key, reward, is_first, is_last, is_terminal, each `[N, …]`, in new arrays: the first step
            of the new episodes, and the latest step of the environments that are not in the mask.
        """
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(f"mask must be a bool array of shape {(self.num_envs,)}, not {mask!r}.")
        if not self._has_started and not mask.all():
            raise ValueError("The first reset must include every environment.")
        self._has_started = True
        mask = mask | self.failed  # environments of one worker restart together
        return self._exchange("reset", mask, [entry for entry in self._workers if mask[entry[1]].any()])

    def step(self, action: NDArray[np.float32]) -> Step:
        """Step every environment with the agent's actions `[N, A]` (see `ActionSpec`); returns steps as `reset`."""
        return self._exchange("step", check_actions(action, self.spec.action, self.num_envs), self._workers)

    def get_states(self) -> list[EnvState]:
        """Return the state of every environment."""
        self._begin_exchange()
        try:
            states = [
                EnvState() if self.failed[part.start + index] else worker.call(index, "get_state")
                for worker, part in self._workers
                for index in range(worker.num_envs)
            ]
        except EnvError:
            self._is_waiting = False  # the error was the answer
            raise
        self._is_waiting = False
        return states

    def set_states(
        self, states: Sequence[EnvState], latest: Step, episodes: Sequence[Callable[[], Iterator[Step]]]
    ) -> list[str]:
        """Continue other environments of the same kind; called before the first reset.

        Args:
            states: result of their `get_states`.
            latest: their latest steps `[N, …]`. `is_last` is set for those whose state could not be restored.
            episodes: for each environment its latest episode's steps, in pieces `[K, …]`, the first step by itself.
                Called only for environments without `load_state`.

        Returns:
            For each environment the reason why its state could not be restored; empty if it was. Such an environment
            begins a new episode at the next reset.
        """
        self._begin_exchange()
        problems = [
            self._set_state(worker, index, states[part.start + index], episodes[part.start + index])
            for worker, part in self._workers
            for index in range(worker.num_envs)
        ]
        latest["is_last"] |= np.array([bool(problem) for problem in problems])
        for worker, part in self._workers:
            for key, rows in worker.rows.items():
                rows[:] = latest[key][part]
        self.needs_reset = latest["is_last"].copy()
        self._has_started = True
        self._is_waiting = False
        return problems

    def pop_errors(self) -> list[EnvError]:
        """Return the failures since the last call after which environments were restarted."""
        errors = [error for worker, _ in self._workers for error in worker.errors]
        for worker, _ in self._workers:
            worker.errors.clear()
        return errors

    @property
    def is_usable(self) -> bool:
        """False after `close`, and after a call that failed or was interrupted."""
        return bool(self._workers) and not self._is_waiting

    def close(self) -> None:
        """Close all environments and end their processes; a second call does nothing."""
        workers, self._workers = self._workers, []
        for worker, _ in workers:
            worker.close()

    def __enter__(self) -> "VectorEnv":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self, method: str, argument: Array, workers: Sequence[tuple[RestartingWorker, slice]]) -> Step:
        self._begin_exchange()
        self.failed = self.failed.copy()
        self.infos = [{} for _ in range(self.num_envs)]
        for worker, part in workers:
            worker.send(method, argument[part])
        for worker, part in workers:
            infos = worker.receive()
            self.failed[part] = infos is None
            for index, info in (infos or {}).items():
                self.infos[part.start + index] = info
        self._is_waiting = False
        first, *others = [worker.rows for worker, _ in self._workers]
        if others:
            steps = {key: np.concatenate([rows, *(each[key] for each in others)]) for key, rows in first.items()}
        else:
            steps = {key: rows.copy() for key, rows in first.items()}
        self.needs_reset = steps["is_last"] & (not self._has_autoreset) | self.failed
        return steps

    def _begin_exchange(self) -> None:
        if not self.is_usable:
            raise EnvError(
                "The environments were closed, or an earlier call failed or was interrupted. They cannot be stepped. "
                "Create them again."
            )
        self._is_waiting = True

    def _set_state(
        self, worker: RestartingWorker, index: int, state: EnvState, episode: Callable[[], Iterator[Step]]
    ) -> str:
        try:
            if worker.call(index, "set_state", state):
                return ""
            count = 0
            for steps in episode():
                worker.call(index, "replay", steps)
                count += len(steps["reward"])
            if count != state.step + 1:
                raise EnvError("the replay no longer holds its whole episode")
            return ""
        except EnvError as error:
            problem = str(error).rstrip(".")
        try:
            worker.call(index, "discard_episode")
        except EnvError as error:
            advice = "With another env.num_envs all environments begin new episodes."
            raise EnvError(f"{error} Its state cannot be restored. {advice}") from error
        return problem
