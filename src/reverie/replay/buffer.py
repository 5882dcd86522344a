"""The replay buffer: steps in, training sequences out.

Steps are collected in memory and stored in groups, each in one transaction. `commit` belongs to a checkpoint: it stores
the rest, deletes the episodes that were evicted, and forces everything onto the disk. The steps of the last two commits
stay there, even where they exceed the capacity, so that a checkpoint which was not completed leaves the one before it.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay.database import REPLAY, Database, damaged
from reverie.replay.index import STEP_BITS, Commit, Episode
from reverie.replay.sampling import draw_windows, read_steps, read_windows
from reverie.specs import Array, ArraySpec, Step

TRANSACTION_STEPS = 256
_AT_ONCE = 256  # steps of an episode that are read at a time


class ReplayBuffer:
    """Steps of one or several environments on disk, bounded in number, and sequences drawn from them.

    Creates the file, or opens the replay in it as of its last commit. Its methods raise a ReplayError where the disk
    fails or stored steps are damaged. `ReplayBuffer(path)` opens one for reading: nothing in its folder changes, and
    the run that writes it may continue.

    Args:
        path: SQLite file of the replay, or the folder that holds it.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`. None: as stored, for reading only.
        config: bounds and sampling; may differ from those that the replay was written with.
        num_envs: N, environments that feed it. A replay of more environments keeps the steps of all.

    Attributes:
        steps: shape and dtype of each entry of a step.
    """

    def __init__(
        self,
        path: Path | str,
        steps: Mapping[str, ArraySpec] | None = None,
        config: ReplayConfig = ReplayConfig(),  # noqa: B008 - it is frozen
        num_envs: int = 1,
    ) -> None:
        self.path = Path(path) / REPLAY if Path(path).is_dir() else Path(path)
        self._is_read_only = steps is None
        self.transaction_steps = TRANSACTION_STEPS  # A killed process loses no more steps; with 1 it loses none.
        self._config, self._num_envs = config, num_envs
        # SPEC 45: an episode must have more steps than the sequence, its reset step included.
        self._limits = (num_envs, config.capacity, config.batch_length + 1)
        self._pending: dict[int, bytes] = {}  # steps that are not stored yet, by id
        self._durable_at = time.monotonic()
        self._has_uncommitted = True  # Steps after the last commit may be on the disk.
        self._database = Database(self.path, steps, self._is_read_only)
        self.steps = self._database.specs
        self._arrays = {key: (np.dtype(spec.dtype), spec.shape) for key, spec in self.steps.items()}
        try:
            self._commits = self._database.commits()
            self._index = self._database.index(self._commits[-1], *self._limits)
        except BaseException:
            self._database.close()
            raise

    @property
    def num_unfinished(self) -> int:
        """Stored steps of running episodes."""
        return self.num_steps - sum(episode.length for episode in self._index.finished)

    def __enter__(self) -> "ReplayBuffer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_steps(self) -> int:
        """Stored steps, those of short and running episodes included."""
        return self._index.num_steps

    @property
    def num_episodes(self) -> int:
        """Finished episodes that are long enough to be sampled."""
        return len(self._index.eligible)

    def episodes(self) -> Iterator[Step]:
        """Yield the finished episodes in the order in which they finished: arrays [T+1, ...] by key.

        The first row is the reset; row t holds the action that led into observation t, and its reward.
        """
        for episode in self._index.finished:
            found = read_steps(self._read, self._database.dtype, [(episode, 0, episode.length)])
            yield {key: np.ascontiguousarray(found[key]) for key in self._arrays}

    def add(self, step: Step, mask: NDArray[np.bool_] | None = None, envs: range | None = None) -> None:
        """Append one step of each environment, arrays [N, ...], or only where the bool [N] `mask` is set.

        With `envs` the rows are those of the environments with these numbers instead of all.

        A step with `is_first` begins an episode; one that was running in its environment is truncated. A step with
        `is_last` finishes the episode. `EpisodeIndex` says which episodes are evicted then. If the step does not fit,
        or earlier ones cannot be stored, a ReplayError is raised and nothing of the step is remembered.
        """
        envs = range(self._num_envs) if envs is None else envs
        data, index = self._pack(step, len(envs)), self._index
        if mask is not None and mask.shape != (len(envs),):
            raise ReplayError(f"mask has shape {mask.shape}, but there are {len(envs)} environments.")
        chosen = [(row, env) for row, env in enumerate(envs) if mask is None or mask[row]]
        is_first, is_last = step["is_first"].tolist(), step["is_last"].tolist()
        for row, env in chosen:
            if not (is_first[row] or index.since_reset[env]):
                raise ReplayError(
                    f"The step of environment {env} does not follow another one of its episode, but is_first is not "
                    "set. Reset the environment."
                )
        self._write_if_due()
        for row, env in chosen:
            if is_first[row]:
                index.finish(env)
            episode = index.running(env) or index.begin(env, index.num_begun)
            data["is_first"][row] |= not episode.length  # where an episode was split
            self._pending[episode.id << STEP_BITS | episode.length] = data[row].tobytes()
            index.extend(episode)
            if is_last[row]:
                index.finish(env)
            elif index.must_split(episode):
                index.finish(env, is_reset=False)
        index.evict()
        with suppress(ReplayError):  # The next call finds the same error, and refuses its own step.
            self._write_if_due()

    def truncate_episodes(self, envs: Iterable[int] | None = None) -> None:
        """Finish running episodes, of all environments by default.

        Their last step is read as `is_last`, and not as `is_terminal`.
        """
        for env in range(len(self._index.envs)) if envs is None else envs:
            self._index.finish(env)

    def open_steps(self, env: int) -> int:
        """Return the steps of an environment since its reset, the reset step included; 0 between episodes."""
        return self._index.since_reset[env]

    def latest_episode(self, env: int, length: int) -> Iterator[Step]:
        """Yield the newest `length` steps of an environment in order; nothing if they are not all stored.

        Each time arrays [K, ...] by key, the first time of the first step alone.
        """
        first, stop = (int(limit[env]) for limit in self._index.spans())
        start, count = stop - length, 1
        while first <= start < stop:
            found = read_steps(self._read, self._database.dtype, self._index.segments(env, start, count))
            yield {key: np.ascontiguousarray(found[key]) for key in self._arrays}
            start, count = start + count, min(_AT_ONCE, stop - start - count)

    def check_sampleable(self, frames_per_step: int = 1) -> None:
        """Raise a ReplayError with the reason if no sequence can be drawn; `frames_per_step` is for the message."""
        first, stop = self._index.spans()
        is_across, longest = self._config.sampling == "steps", int((stop - first).max(initial=0))
        if longest < self._config.batch_length if is_across else not self._index.eligible:
            raise ReplayError(
                self.too_short(frames_per_step)
                or f"No sequence of replay.batch_length={self._config.batch_length} can be drawn: the replay holds "
                f"{longest} steps in a row and {len(self._index.finished)} finished episodes. Raise training.prefill "
                f"or replay.capacity{'' if is_across else ', or set replay.sampling=steps'}."
            )

    def too_short(self, frames_per_step: int = 1) -> str:
        """Say that all finished episodes are too short to be sampled; empty if one is not, or none has finished."""
        finished, length = self._index.finished, self._config.batch_length
        if self._config.sampling == "steps" or self._index.eligible or not finished:
            return ""
        longest = max(episode.length for episode in finished)
        return (
            f"replay.batch_length={length} is too long for all of the {len(finished)} finished episodes: one of at "
            f"least {length + 1} steps is needed, and the longest has {longest} ({(longest - 1) * frames_per_step} "
            f"frames at env.action_repeat={frames_per_step}). Lower replay.batch_length, or set replay.sampling=steps."
        )

    def sample(self, rng: np.random.Generator, out: Step | None = None) -> Step:
        """Draw a batch of sequences: arrays [T, B, ...] by key, T replay.batch_length and B replay.batch_size.

        With `replay.sampling=episodes`, an episode is drawn uniformly and then a window in it (SPEC 46, see
        `window_start`); with `steps`, a window of consecutive steps of one environment, uniformly. The first step of
        each sequence is marked `is_first`, so that no state is carried into it.

        Args:
            rng: source of the draws; the same state gives the same batch.
            out: arrays to fill instead of new ones, as returned by an earlier call.
        """
        self.check_sampleable()
        windows = draw_windows(self._index, self._config, rng)
        return read_windows(self._read, self._database.dtype, windows, out)

    def commit(self) -> dict[str, object]:
        """Force everything appended so far onto the disk, and return a few numbers for `rewind`, of JSON's types."""
        commit = self._index.commit(self._commits[-1].identity)
        self._write([*[each for each in self._commits if each != commit][-1:], commit])
        return asdict(commit)

    def check(self, commit: Any) -> None:
        """Compare every step that a commit holds with its checksum; the first damaged one is a ReplayError."""
        for episodes in self._database.index(Commit.from_json(commit)).envs:
            for each in episodes:
                if what := self._database.damage(each):
                    raise damaged(self.path, what)

    def rewind(self, commit: Any) -> bool:
        """Return to a commit of this or an earlier process, and say whether everything is there that it held.

        Steps appended after it are dropped, and episodes that were running are running again. For the last two commits
        this restores the replay exactly, steps that were evicted since included; of older ones, those may be gone.
        """
        target = Commit.from_json(commit)
        if target.identity != self._commits[-1].identity:
            raise ReplayError(f"{self.path} and the checkpoint do not belong together. Restore both from one copy.")
        if self._pending or self._index.changed:
            self._write()
        self._index = self._database.index(target, *self._limits)
        self._has_uncommitted = True
        if target in self._commits:
            self._commits = self._commits[: self._commits.index(target) + 1]
            with self._database.transaction(is_durable=True):
                self._database.write_commits(self._commits)
        else:  # Such a commit is returned to in order to do without what came after it.
            self._commits = [self._index.commit(target.identity)]
            self._write(self._commits)
        return self._index.num_steps == target.num_steps

    def num_uncommitted(self) -> int:
        """Return the agent steps that were stored after the commit to which `rewind` has just returned."""
        if not self._has_uncommitted:
            return 0
        held = {each.id: each.length for episodes in self._index.envs for each in episodes}
        stored = {each.id: self._database.num_stored(each.id) for each in self._uncommitted()}
        return sum(max(0, length - held.get(number, 1)) for number, length in stored.items())  # A reset is no step.

    def recover_uncommitted(self, envs: Iterable[int] | None = None) -> tuple[int, int]:
        """Append steps again that were stored after the commit to which `rewind` has just returned.

        Those of the given environments, by default of all; the steps of others are deleted. Returns the number of
        steps, resets not counted, and of ends of episodes among them.
        """
        index, num_steps, num_ends = self._index, 0, 0
        chosen = set(range(len(index.envs)) if envs is None else envs)
        for stored in self._uncommitted() if self._has_uncommitted else ():
            length = stored.length if stored.finished is not None else self._database.num_stored(stored.id)
            if stored.env not in chosen or not length:
                continue
            episode = index.running(stored.env) or index.begin(stored.env, stored.id)
            num_steps += length - max(episode.length, 1)  # A reset is no agent step.
            index.extend(episode, length - episode.length)
            if stored.finished is not None:
                [last] = self._database.read(stored.id, length - 1, length)
                num_ends += bool(np.frombuffer(last, self._database.dtype)["is_last"][0])
                index.finish(stored.env)
        self._write()
        return num_steps, num_ends

    def close(self) -> None:
        """Commit and close the file."""
        try:
            is_changed = self._index.commit(self._commits[-1].identity) != self._commits[-1]
            if is_changed and not self._is_read_only:
                self.commit()
        finally:
            self._database.close()

    def _pack(self, step: Step, num_envs: int) -> Array:
        """Return the step of each of N environments as one structured value [N]."""
        given = {key: (array.dtype, array.shape) for key, array in step.items()}
        expected = {key: (dtype, (num_envs, *shape)) for key, (dtype, shape) in self._arrays.items()}
        if given != expected:
            stored, found = (dict(one - other) for one, other in permutations((expected.items(), given.items())))
            raise ReplayError(f"The step does not fit: the replay stores {stored}, but was given {found}.")
        data = np.empty(num_envs, self._database.dtype)
        for key, array in step.items():
            data[key] = array
        return data

    def _read(self, episode: int, start: int, stop: int) -> list[bytes]:
        """Return the bytes of steps, those that are not stored yet included."""
        first = episode << STEP_BITS
        pending = [self._pending[step] for step in range(first + start, first + stop) if step in self._pending]
        return self._database.read(episode, start, stop - len(pending)) + pending

    def _write_if_due(self) -> None:
        is_old = 0 < self._config.fsync_interval <= time.monotonic() - self._durable_at
        if self._has_uncommitted or len(self._pending) >= self.transaction_steps or (self._pending and is_old):
            self._write(is_durable=is_old)

    def _write(self, commits: Sequence[Commit] = (), is_durable: bool = True) -> None:
        """Store what is pending in one transaction, with the commits of a checkpoint if there are any."""
        if self._is_read_only:
            raise ReplayError(f"{self.path} was opened for reading. Nothing was stored. Open it with its `steps`.")
        with self._database.transaction(is_durable):
            if self._has_uncommitted:
                self._delete_uncommitted()
            self._database.insert(sorted(self._pending.items()))
            self._database.write_episodes(self._index.changed.values())
            if commits:
                old = "SELECT id FROM episodes WHERE finished < ?"
                for (episode,) in self._database.execute(old, (commits[0].oldest,)):
                    self._database.delete(episode)
                self._database.write_commits(commits)
        self._pending.clear()
        self._index.changed.clear()
        self._has_uncommitted = False
        self._commits = list(commits) or self._commits
        if is_durable:
            self._durable_at = time.monotonic()

    def _uncommitted(self) -> list[Episode]:
        """Return the stored episodes that were running at the last commit, or begun after it, as they finished."""
        commit, stored = self._commits[-1], self._database.episodes().values()
        return [each for each in stored if each.id >= commit.num_begun or each.id in commit.running]

    def _delete_uncommitted(self) -> None:
        """Delete what was stored after the last commit and is not in the index."""
        held = {each.id: each for episodes in self._index.envs for each in episodes}
        for number in (each.id for each in self._uncommitted()):
            self._database.delete(number, held[number].length if number in held else 0)
            self._database.write_episodes([held[number]] if number in held else [])
