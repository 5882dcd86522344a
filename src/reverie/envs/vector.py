"""Several environments of one kind, stepped together."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reverie.envs.spaces import check_actions
from reverie.envs.state import EnvState, fingerprint
from reverie.envs.workers import Worker, allocate_rows
from reverie.errors import EnvError
from reverie.specs import Array, Step

FAILED_STEP = {"reward": 0.0, "is_first": False, "is_last": True, "is_terminal": False}
"""Entries of the row of an environment that failed; its observations are those of the step before."""


class VectorEnv:
    """N environments of one kind that are stepped together.

    Finished environments are not reset on their own: pass them to `reset` before the next `step`. Unlike
    `gymnasium.vector`, one worker process steps several environments, failed ones can be restarted, and the state of
    each can be saved. Whatever fails in an environment is raised as an `EnvError`.

    Args:
        workers: step the environments.
        frames_per_step: environment frames per agent step (the action repeat).

    Attributes:
        num_envs: N.
        num_workers: number of workers.
        spec: observations and actions of each environment.
        frames_per_step: as above.
        failed: bool `[N]`, environments whose latest row is no step; they restart at their next reset.
        infos: for each environment the `info` of its latest step, if that ended its episode; else an empty dictionary.
    """

    def __init__(self, workers: Sequence[Worker], frames_per_step: int = 1) -> None:
        self.spec, *_ = [worker.wait_ready() for worker in workers]
        self.num_workers = len(workers)
        self.frames_per_step = frames_per_step
        borders = np.cumsum([0, *(worker.num_envs for worker in workers)]).tolist()
        self._workers = [(worker, slice(*ends)) for worker, ends in zip(workers, pairwise(borders), strict=True)]
        self.num_envs: int = borders[-1]
        self.failed = np.zeros(self.num_envs, bool)
        self.infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._latest = allocate_rows(self.spec, self.num_envs)
        self._has_started = False
        self._is_waiting = False  # for an answer, which would pass for the next one if it were never received
        self._is_closed = False

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
        for key, rows in self._latest.items():
            rows[:] = latest[key]
        self._has_started = True
        self._is_waiting = False
        return problems

    def pop_errors(self) -> list[EnvError]:
        """Return the failures since the last call after which environments were restarted."""
        return [error for worker, _ in self._workers for error in worker.pop_errors()]

    @property
    def is_usable(self) -> bool:
        """False after `close`, and after a call that failed or was interrupted."""
        return not (self._is_waiting or self._is_closed)

    def close(self) -> None:
        """Close all environments and end their processes; a second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            for worker, _ in self._workers:
                worker.close()

    def __enter__(self) -> "VectorEnv":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(
        self, method: Literal["reset", "step"], argument: Array, workers: Sequence[tuple[Worker, slice]]
    ) -> Step:
        self._begin_exchange()
        self.failed = self.failed.copy()
        self.infos = [{} for _ in range(self.num_envs)]
        for worker, part in workers:
            worker.send(method, argument[part])
        for worker, part in workers:
            answer = worker.receive()
            self.failed[part] = answer is None
            rows, infos = (FAILED_STEP, {}) if answer is None else answer
            answered = argument[part] if answer is not None and method == "reset" else slice(None)
            for key, values in rows.items():
                self._latest[key][part][answered] = values
            for index, info in infos.items():
                self.infos[part.start + index] = info
        self._is_waiting = False
        return {key: rows.copy() for key, rows in self._latest.items()}

    def _begin_exchange(self) -> None:
        if not self.is_usable:
            raise EnvError(
                "The environments were closed, or an earlier call failed or was interrupted. They cannot be stepped. "
                "Create them again."
            )
        self._is_waiting = True

    def _set_state(self, worker: Worker, index: int, state: EnvState, episode: Callable[[], Iterator[Step]]) -> str:
        try:
            problem = self._replay_episode(worker, index, state, episode)
        except EnvError as error:
            problem = str(error).rstrip(".")
        if problem:
            try:
                worker.call(index, "discard_episode")
            except EnvError as error:
                advice = "With another env.num_envs all environments begin new episodes."
                raise EnvError(f"{error} Its state cannot be restored. {advice}") from error
        return problem

    def _replay_episode(
        self, worker: Worker, index: int, state: EnvState, episode: Callable[[], Iterator[Step]]
    ) -> str:
        found: bytes | None = worker.call(index, "set_state", state)
        if found is None:
            return ""
        count = 0
        for steps in episode():
            if count:
                found = worker.call(index, "replay_actions", steps["action"])
            if found != fingerprint(steps, self.spec):
                return "it is not deterministic: its steps depend on more than seed, np_random and actions"
            count += len(steps["reward"])
        return "" if count == state.step + 1 else "the replay no longer holds its whole episode"
