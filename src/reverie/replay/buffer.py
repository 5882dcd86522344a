"""The replay buffer: steps in, training sequences out.

Steps are collected in memory and stored in groups, each in one transaction. `commit` belongs to a checkpoint: it stores
the rest, deletes the episodes that were evicted, and forces everything onto the disk. The steps of the last two commits
stay there, even where they exceed the capacity, so that a checkpoint which was not completed leaves the one before it.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay.database import Database, sqlite_errors
from reverie.replay.index import MAX_LENGTH, STEP_BITS, Commit, Episode, EpisodeIndex
from reverie.replay.recovery import Recovered, delete_evicted, delete_uncommitted, read_index, recover
from reverie.replay.sampling import draw_windows, read_segments, read_windows, why_not_sampleable, why_too_short
from reverie.replay.syncing import Syncer
from reverie.replay.verifying import check_commit
from reverie.specs import Array, ArraySpec, Step

TRANSACTION_STEPS = 256
_AT_ONCE = 256  # steps of an episode that are read at a time


class ReplayBuffer:
    """Steps of one or several environments on disk, bounded in number, and sequences drawn from them.

    Creates the file, or opens the replay in it as of its last commit.

    Args:
        path: SQLite file of the replay.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        config: bounds and sampling; may differ from those that the replay was written with.
        num_envs: N, environments that feed it. A replay of more environments keeps the steps of all.

    Raises:
        ReplayError: if the file holds something else, or a replay of other steps.
    """

    def __init__(self, path: Path, steps: Mapping[str, ArraySpec], config: ReplayConfig, num_envs: int) -> None:
        self.path = Path(path)
        self.transaction_steps = TRANSACTION_STEPS
        """Steps that are stored together: a killed process loses no more. With 1 it loses none."""
        self._config = config
        self._num_envs = num_envs
        self._specs = dict(steps)
        self._database = Database(self.path, steps)
        self._pending: dict[int, bytes] = {}
        self._pending_since = 0.0
        self._changed: dict[int, Episode] = {}  # episodes to be stored with the pending steps
        self._is_clean = True  # Nothing was changed since the last commit.
        try:
            self._commits = self._database.commits
            self._index = self._read_index(self._commits[-1])
        except BaseException:
            self._database.close()
            raise
        self._has_uncommitted = True  # Steps after the last commit may be on the disk.
        self._syncer = Syncer(self.path, config.fsync_interval)

    @property
    def num_steps(self) -> int:
        """Stored steps, at most `replay.capacity`; those of short and running episodes included."""
        return self._index.num_steps

    @property
    def num_episodes(self) -> int:
        """Finished episodes that are long enough to be sampled."""
        return len(self._index.eligible)

    def add(self, step: Step, mask: NDArray[np.bool_] | None = None) -> None:
        """Append one step of each environment.

        A step with `is_first` begins an episode; one that was running in its environment is truncated. A step with
        `is_last` finishes the episode.

        Args:
            step: arrays [N, ...].
            mask: bool [N], environments whose step is appended; None appends all.

        Raises:
            ReplayError: if the step does not fit or earlier ones cannot be stored; nothing of it is remembered then.
        """
        data = self._pack(step)
        if mask is not None and mask.shape != (self._num_envs,):
            raise ReplayError(f"mask has shape {mask.shape}, but there are {self._num_envs} environments.")
        chosen = range(self._num_envs) if mask is None else np.flatnonzero(mask).tolist()
        is_first, is_last = step["is_first"].tolist(), step["is_last"].tolist()
        for env in chosen:
            self._check_follows(env, is_first[env])
        if self._has_uncommitted:
            self._write()
        self._store_if_due()
        if not self._pending:
            self._pending_since = time.monotonic()
        for env in chosen:
            episode = None if is_first[env] else self._index.running(env)
            if episode is None:
                self._finish(env)
                episode = self._index.begin(env)
                self._changed[episode.id] = episode
            self._pending[episode.id << STEP_BITS | episode.length] = data[env].tobytes()
            self._index.extend(episode)
            if is_last[env]:
                self._finish(env)
        self._is_clean = False
        self._index.evict()
        with suppress(ReplayError):  # The next call finds the same error, and refuses its own step.
            self._store_if_due()

    def truncate_episodes(self, envs: Iterable[int] | None = None) -> None:
        """Finish running episodes: their last step is read as `is_last`, and not as `is_terminal`.

        Args:
            envs: numbers of the environments; None for all of them.
        """
        for env in range(len(self._index.envs)) if envs is None else envs:
            self._finish(env)

    def open_steps(self, env: int) -> int:
        """Return the steps of an environment's running episode, the reset step included; 0 between episodes."""
        episode = self._index.running(env)
        return episode.length if episode else 0

    def latest_episode(self, env: int, length: int) -> Iterator[Step]:
        """Yield the newest `length` steps of an environment in order; nothing if they are not all stored.

        Args:
            env: number of the environment.
            length: steps of its latest episode, finished or not, the reset step included.

        Yields:
            Arrays `[K, ...]` by key, the first time of the first step alone.
        """
        first, stop = (int(limit[env]) for limit in self._index.spans())
        if stop - length < first:
            return
        start = stop - length
        for begin, end in pairwise([start, *range(start + 1, stop, _AT_ONCE), stop]):
            found = read_segments(self._read, self._database.dtype, self._index.segments(env, begin, end - begin))
            yield {key: np.ascontiguousarray(found[key]) for key in self._specs}

    def check_sampleable(self, frames_per_step: int = 1) -> None:
        """Make sure that sequences can be drawn.

        Args:
            frames_per_step: `env.action_repeat`, for the message.

        Raises:
            ReplayError: if not, with the reason.
        """
        if problem := why_not_sampleable(self._index, self._config, frames_per_step):
            raise ReplayError(problem)

    def too_short(self, frames_per_step: int = 1) -> str:
        """Say that all finished episodes are too short to be sampled; empty if one is not, or none has finished.

        Args:
            frames_per_step: `env.action_repeat`, for the message.
        """
        return why_too_short(self._index, self._config, frames_per_step)

    def sample(self, rng: np.random.Generator, out: Step | None = None) -> Step:
        """Draw a batch of sequences.

        With `replay.sampling=episodes`, an episode is drawn uniformly and then a window in it (SPEC 46, see
        `window_start`); with `steps`, a window of consecutive steps of one environment, uniformly. The first step of
        each sequence is marked `is_first`, so that no state is carried into it.

        Args:
            rng: source of the draws; the same state gives the same batch.
            out: arrays to fill instead of new ones, as returned by an earlier call.

        Returns:
            Arrays [T, B, ...] by key; T is replay.batch_length and B replay.batch_size.

        Raises:
            ReplayError: if no sequence can be drawn, or one of its steps is damaged.
        """
        self.check_sampleable()
        windows = draw_windows(self._index, self._config, rng)
        return read_windows(self._read, self._database.dtype, windows, out)

    def commit(self) -> dict[str, object]:
        """Force everything appended so far onto the disk.

        Returns:
            The commit, of JSON's types, for `rewind`. It is small, whatever the size of the replay.

        Raises:
            ReplayError: if the disk is full; the last commit is then still intact.
        """
        commit = self._index.commit(self._commits[-1].identity)
        commits = [*[each for each in self._commits if each != commit][-1:], commit]
        with self._database.transaction(is_durable=True):
            self._store()
            delete_evicted(self._database, self._index, commits[0], commit)
            self._database.write_commits(commits)
        self._stored()
        self._commits, self._is_clean = commits, True
        self._database.to_disk()
        return commit.to_json()

    def check(self, commit: Any) -> None:
        """Compare every step that a commit holds with its checksum.

        Args:
            commit: as returned by `commit`, possibly of an earlier process.

        Raises:
            ReplayError: for the first one that is damaged or missing.
        """
        check_commit(self._database, Commit.from_json(commit))

    def rewind(self, commit: Any) -> bool:
        """Return to a commit: steps appended after it are dropped.

        For the last two commits this restores the replay exactly, steps that were evicted since included; of older
        ones, those may be gone. An episode that was running is running again.

        Args:
            commit: as returned by `commit`, possibly of an earlier process.

        Returns:
            Whether everything is there that was stored then.

        Raises:
            ReplayError: if the commit is not one of this replay.
        """
        target = Commit.from_json(commit)
        if target.identity != self._commits[-1].identity:
            raise ReplayError(f"{self.path} and the checkpoint do not belong together. Restore both from one copy.")
        if self._pending or self._changed:
            self._write()
        index = self._read_index(target, evict=False)
        is_whole = index.num_steps == target.num_steps
        known = self._commits.index(target) if target in self._commits else None
        commits = self._commits[: known + 1] if known is not None else [index.commit(target.identity)]
        if commits != self._commits:
            with self._database.transaction(is_durable=True):
                self._database.write_commits(commits)
                if known is None:  # Such a commit is returned to in order to do without what came after it.
                    delete_uncommitted(self._database, commits[-1])
        self._index, self._commits = index, commits
        self._has_uncommitted, self._is_clean = known is not None, True
        index.evict()
        return is_whole

    def recover_uncommitted(self, envs: Iterable[int] | None = None) -> Recovered:
        """Append steps again that were stored after the commit to which the replay has just returned.

        Args:
            envs: numbers of the environments; None for all of them.

        Returns:
            How much there was.
        """
        if not self._has_uncommitted:
            return Recovered(0, 0)
        with self._database.transaction():
            found, episodes = recover(self._database, self._index, None if envs is None else set(envs))
            delete_uncommitted(self._database, self._commits[-1], episodes)
            self._database.write_episodes(episodes)
        self._has_uncommitted = False
        self._is_clean = self._is_clean and not found.steps
        self._index.evict()
        return found

    def close(self) -> None:
        """Commit and close the file."""
        try:
            if not self._is_clean:
                self.commit()
        finally:
            self._syncer.close()
            self._database.close()

    def _read_index(self, commit: Commit, evict: bool = True) -> EpisodeIndex:
        # SPEC 45: an episode must have more steps than the sequence, its reset step included.
        index = read_index(self._database, commit, self._num_envs, self._config.capacity, self._config.batch_length + 1)
        if evict:
            index.evict()
        return index

    def _check_follows(self, env: int, is_first: bool) -> None:
        episode = self._index.running(env)
        if episode is None and not is_first:
            raise ReplayError(
                f"The step of environment {env} follows the end of an episode, or is its very first one, but is_first "
                "is not set; reset the environment."
            )
        if episode and not is_first and episode.length == MAX_LENGTH:
            raise ReplayError(
                f"An episode of environment {env} has {MAX_LENGTH:,} steps. No longer one can be stored. "
                "Set env.time_limit."
            )

    def _finish(self, env: int) -> None:
        episode = self._index.finish(env)
        if episode:
            self._changed[episode.id] = episode
            self._is_clean = False

    def _pack(self, step: Step) -> Array:
        """Return the step of each environment as one structured value [N]."""
        missing, unknown = self._specs.keys() - step.keys(), step.keys() - self._specs.keys()
        if missing or unknown:
            kinds = (("missing", missing), ("unknown", unknown))
            text = "; ".join(f"{kind}: {', '.join(sorted(keys))}" for kind, keys in kinds if keys)
            raise ReplayError(f"A step does not have the entries that the replay stores ({text}).")
        data = np.empty(self._num_envs, self._database.dtype)
        for key, spec in self._specs.items():
            array, shape = step[key], (self._num_envs, *spec.shape)
            if array.shape != shape or array.dtype != spec.dtype:
                raise ReplayError(
                    f"The replay stores '{key}' as {spec.dtype} {list(shape)}, one row per environment, "
                    f"but was given {array.dtype} {list(array.shape)}."
                )
            data[key] = array
        return data

    def _read(self, first: int, stop: int) -> list[bytes]:
        """Return the bytes of steps by id, those that are not stored yet included."""
        found = self._database.read(first, stop)
        found += [self._pending[step] for step in range(first + len(found), stop) if step in self._pending]
        if len(found) < stop - first:
            raise self._database.damaged_step(first + len(found))
        return found

    def _store_if_due(self) -> None:
        if not self._pending:
            return
        age = time.monotonic() - self._pending_since
        if len(self._pending) >= self.transaction_steps or 0 < self._config.fsync_interval <= age:
            self._write()

    def _write(self) -> None:
        """Store pending steps in a transaction of their own."""
        with self._database.transaction():
            self._store()
        self._stored()

    def _store(self) -> None:
        """Store pending steps, inside a transaction."""
        with sqlite_errors(self.path):
            self._syncer.check()
        if self._has_uncommitted:
            delete_uncommitted(self._database, self._commits[-1])
        self._database.insert_steps(sorted(self._pending.items()))
        self._database.write_episodes(self._changed.values())

    def _stored(self) -> None:
        self._pending.clear()
        self._changed.clear()
        self._has_uncommitted = False
