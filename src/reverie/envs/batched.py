"""Several environments stepped together, in this process or in worker processes."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from reverie.envs.runner import EnvRunner
from reverie.envs.spaces import check_actions
from reverie.envs.state import EnvState, fingerprint
from reverie.errors import EnvError
from reverie.specs import STEP_KEYS, Array, EnvSpec, Step

_ALIGNMENT = 64

RunnerFactory = Callable[[], EnvRunner]
"""Creates one environment; sent to workers by cloudpickle."""


@runtime_checkable
class Group(Protocol):
    """Some of the environments of a `BatchedEnv`.

    Each `send_reset` and `send_step` is followed by one `receive`. The methods below `receive` are called between such
    exchanges only; see `EnvRunner`.
    """

    spec: EnvSpec
    down: bool
    """Whether the latest rows are no steps, since the environments have failed."""

    def wait_ready(self) -> None:
        """Wait until the environments exist."""

    def take_faults(self) -> list[EnvError]:
        """What has failed since the last call, and was made good."""

    def send_reset(self, mask: Array) -> None:
        """Begin to reset the environments in the mask."""

    def send_step(self, action: Array) -> None:
        """Begin to step all environments."""

    def receive(self) -> Step:
        """Wait for the result."""

    def states(self) -> list[EnvState]:
        """Where the environments stand."""

    def put_back(self, index: int, state: EnvState) -> bytes:
        """Put an environment where it stood, or to the first step of its latest episode."""

    def retrace(self, index: int, actions: Array) -> bytes:
        """Let it take steps `[K, A]` again."""

    def abandon(self, index: int) -> None:
        """Leave its latest episode."""

    def stand_at(self, latest: Step) -> None:
        """These `[n, …]` were the latest steps."""

    def close(self) -> None:
        """Close the environments."""


class StepLayout:
    """How the step of n environments lies in one block of bytes, so that it can be sent as it is.

    Attributes:
        size: bytes of the block.
    """

    def __init__(self, spec: EnvSpec, count: int) -> None:
        self._parts: list[tuple[str, slice, np.dtype[Any], tuple[int, ...]]] = []
        self.size = 0
        for key, entry in {**spec.observations, **STEP_KEYS}.items():
            dtype = np.dtype(entry.dtype)
            stop = self.size + count * entry.size * dtype.itemsize
            self._parts.append((key, slice(self.size, stop), dtype, (count, *entry.shape)))
            self.size = -(-stop // _ALIGNMENT) * _ALIGNMENT

    def arrays(self, block: Array) -> Step:
        """The arrays `[n, …]` by key; they share memory with the block, uint8 `[size]`."""
        return {key: block[part].view(dtype).reshape(shape) for key, part, dtype, shape in self._parts}

    def new_arrays(self) -> Step:
        """Such arrays `[n, …]`, each in memory of its own, with anything in them."""
        return {key: np.empty(shape, dtype) for key, _, dtype, shape in self._parts}


class LocalGroup:
    """Environments stepped one after the other in this process; also what each worker process holds."""

    down = False

    def __init__(self, factories: Sequence[RunnerFactory]) -> None:
        self._runners: list[EnvRunner] = []
        try:
            for factory in factories:
                self._runners.append(factory())
        except BaseException:
            self.close()
            raise
        self.num_envs = len(self._runners)
        self.spec = self._runners[0].spec
        self.layout = StepLayout(self.spec, self.num_envs)
        self._latest: list[Step] = [{} for _ in factories]
        self._work: Callable[[], None] = lambda: None

    def wait_ready(self) -> None:
        """They exist."""

    def take_faults(self) -> list[EnvError]:
        """None: an error ends everything."""
        return []

    def send_reset(self, mask: Array) -> None:
        """Begin to reset the environments in the mask `[n]`."""

        def work() -> None:
            for index in np.flatnonzero(mask):
                self._latest[index] = self._runners[index].reset()

        self._work = work

    def send_step(self, action: Array) -> None:
        """Begin to step all environments with the actions `[n, A]`."""

        def work() -> None:
            for index, runner in enumerate(self._runners):
                self._latest[index] = runner.step(action[index])

        self._work = work

    def receive(self) -> Step:
        """The latest step of every environment `[n, …]`, in new arrays."""
        batch = self.layout.new_arrays()
        self.receive_into(batch)
        return batch

    def receive_into(self, batch: Step) -> None:
        """The same in existing arrays, those of `layout`."""
        self._work()
        for key, rows in batch.items():  # np.stack takes longer than the copying
            for index, step in enumerate(self._latest):
                rows[index] = step[key]

    def states(self) -> list[EnvState]:
        """Where the environments stand."""
        return [runner.state() for runner in self._runners]

    def put_back(self, index: int, state: EnvState) -> bytes:
        """See `EnvRunner.put_back`."""
        return self._runners[index].put_back(state)

    def retrace(self, index: int, actions: Array) -> bytes:
        """See `EnvRunner.retrace`."""
        return self._runners[index].retrace(actions)

    def abandon(self, index: int) -> None:
        """See `EnvRunner.abandon`."""
        self._runners[index].abandon()

    def stand_at(self, latest: Step) -> None:
        """These `[n, …]` were the latest steps."""
        self._latest = [{key: rows[index] for key, rows in latest.items()} for index in range(self.num_envs)]

    def close(self) -> None:
        """Close the environments."""
        for runner in self._runners:
            runner.close()


class BatchedEnv:
    """N environments of one kind that are stepped together.

    Finished environments are not reset on their own: pass them to `reset` before the next `step`.

    Attributes:
        num_envs: N.
        num_groups: processes that step them; 1 where there are no workers.
        spec: observations and actions of each environment.
        frames_per_step: environment frames per agent step (the action repeat).
    """

    def __init__(self, groups: Sequence[Group], sizes: Sequence[int], frames_per_step: int) -> None:
        self._groups = groups
        self._sizes = sizes
        borders = np.cumsum([0, *sizes])
        self._slices = [slice(start, stop) for start, stop in pairwise(borders)]
        self.num_envs = int(borders[-1])
        self.num_groups = len(groups)
        self.spec = groups[0].spec
        self.frames_per_step = frames_per_step
        self._started = np.zeros(self.num_envs, bool)
        self._closed = False
        self._broken = False

    def reset(self, mask: NDArray[np.bool_]) -> Step:
        """Start new episodes where `mask` `[N]` is true.

        Returns:
            Every observation key, reward, is_first, is_last, is_terminal, each `[N, …]`, in new arrays: the first step
            of the new episodes, and the latest step of the environments that are not in the mask.

        Raises:
            EnvError: if an environment fails, or returns what does not fit its spaces.
        """
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(f"mask must be a bool array of shape {(self.num_envs,)}, not {mask!r}.")
        self._started |= mask
        if not self._started.all():
            raise ValueError("The first reset must include every environment.")
        return self._exchange(lambda group, part: group.send_reset(mask[part]))

    def step(self, action: NDArray[np.float32]) -> Step:
        """Step every environment with the agent's actions `[N, A]` (see `ActionSpec`).

        Returns:
            As `reset`: the steps that the actions led to.

        Raises:
            EnvError: as `reset`; also if an action is invalid, or an episode is over and was not reset.
        """
        actions = check_actions(action, self.spec.action, self.num_envs)
        return self._exchange(lambda group, part: group.send_step(actions[part]))

    def states(self) -> list[EnvState]:
        """Where every environment stands.

        Raises:
            EnvError: if an environment fails to say it.
        """
        self._begin_exchange()
        try:
            return [state for group in self._groups for state in group.states()]
        finally:
            self._broken = False  # every question has had its answer

    def put_back(
        self, states: Sequence[EnvState], latest: Step, episodes: Sequence[Callable[[], Iterator[Step]]]
    ) -> list[str]:
        """Let environments that were just made go on where others of the same kind stood.

        Args:
            states: of the others, from `states`.
            latest: their latest steps `[N, …]`. In those that could not be put back, `is_last` is set.
            episodes: for each environment its latest episode's steps, `[K, …]` a time: the first one alone, then those
                that actions led to. Asked only where an environment cannot be told where it stood.

        Returns:
            For each environment why it could not be put back; empty if it stands where the other one stood. One that
            does not begins a new episode at the next reset.
        """
        self._begin_exchange()
        problems = []
        sizes = zip(self._groups, self._sizes, strict=True)
        places = [(group, index) for group, size in sizes for index in range(size)]
        for (group, index), state, episode in zip(places, states, episodes, strict=True):
            problem = self._put_back_one(group, index, state, episode)
            if problem:
                _abandon(group, index)
            problems.append(problem)
        latest["is_last"] |= np.array([bool(problem) for problem in problems])
        for group, part in zip(self._groups, self._slices, strict=True):
            group.stand_at({key: rows[part] for key, rows in latest.items()})
        self._started[:] = True
        self._broken = False
        return problems

    def _put_back_one(self, group: Group, index: int, state: EnvState, episode: Callable[[], Iterator[Step]]) -> str:
        try:
            shown = group.put_back(index, state)
            if not shown:
                return ""
            count = 0
            for steps in episode():
                if count:
                    shown = group.retrace(index, steps["action"])
                if shown != fingerprint(steps, self.spec.observations):
                    return "it does not repeat itself: what it shows is not decided by seed, np_random and actions"
                count += len(steps["reward"])
            return "" if count == state.step + 1 else "the replay does not hold its whole episode any more"
        except EnvError as error:
            return str(error).rstrip(".")

    @property
    def down(self) -> NDArray[np.bool_]:
        """Environments `[N]` whose latest row is no step: they have failed, and are made anew at their next reset."""
        return np.repeat([group.down for group in self._groups], self._sizes)

    def take_faults(self) -> list[EnvError]:
        """What environments have failed with since the last call; only of those that are made anew."""
        return [fault for group in self._groups for fault in group.take_faults()]

    @property
    def goes_on(self) -> bool:
        """Whether steps can be taken: nothing has failed, and nothing was closed."""
        return not (self._broken or self._closed)

    def close(self) -> None:
        """Close all environments and end their processes; a second call does nothing."""
        if not self._closed:
            self._closed = True
            for group in self._groups:
                group.close()

    def __enter__(self) -> "BatchedEnv":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self, send: Callable[[Group, slice], None]) -> Step:
        self._begin_exchange()
        for group, part in zip(self._groups, self._slices, strict=True):
            send(group, part)
        parts = [group.receive() for group in self._groups]
        self._broken = False
        return _merged(parts)

    def _begin_exchange(self) -> None:
        if not self.goes_on:
            raise EnvError(
                "The environments cannot go on: they were closed, or an earlier step failed or was interrupted. "
                "Create them again."
            )
        self._broken = True  # until every answer has arrived; one that is left over would pass for the next


def _abandon(group: Group, index: int) -> None:
    try:
        group.abandon(index)
    except EnvError as error:
        raise EnvError(
            f"{str(error).rstrip('.')} while it was being put back where the run was stopped; with another "
            "env.num_envs all environments begin new episodes instead."
        ) from error


def _merged(parts: list[Step]) -> Step:
    """The steps of all groups as one `[N, …]`."""
    if len(parts) == 1:
        return parts[0]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
