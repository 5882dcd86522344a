"""A replay for reading only: nothing in its folder changes, and the run that writes it may continue."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReplayError
from reverie.replay.database import Database
from reverie.replay.index import STEP_BITS, Commit, Episode, Segment
from reverie.replay.recovery import read_index
from reverie.replay.sampling import draw_across_episodes, read_segments, read_windows
from reverie.specs import ArraySpec, Step

_AT_ONCE = 256  # steps that are read at a time


class ReplayReader:
    """The steps of a replay at a commit. Use it as a context manager; the file is seen as it was when it was opened.

    Args:
        path: SQLite file of the replay.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        commit: what `ReplayBuffer.commit` returned; None is the last one.

    Raises:
        ReplayError: if there is no replay, or it holds other steps.
    """

    def __init__(self, path: Path, steps: Mapping[str, ArraySpec], commit: Any = None) -> None:
        self.path = Path(path)
        self._database = Database(self.path, steps, read_only=True)
        try:
            chosen = self._database.commits[-1] if commit is None else Commit.from_json(commit)
            self._index = read_index(self._database, chosen)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> "ReplayReader":
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._database.close()

    @property
    def num_steps(self) -> int:
        """Steps of the commit."""
        return self._index.num_steps

    @property
    def num_episodes(self) -> int:
        """Finished episodes of the commit, short ones included."""
        return len(self._index.finished)

    @property
    def longest(self) -> int:
        """Most steps of one environment in a row."""
        first, stop = self._index.spans()
        return int((stop - first).max(initial=0))

    def episodes(self) -> list[Episode]:
        """Return the episodes of each environment in order, running ones included."""
        return [episode for episodes in self._index.envs for episode in episodes]

    def steps(self, episode: Episode) -> Iterator[Step]:
        """Yield the stored steps of an episode in order, arrays [K, …] by key."""
        for start in range(episode.start, episode.length, _AT_ONCE):
            segment = Segment(episode, start, min(start + _AT_ONCE, episode.length))
            found = read_segments(self._read, self._database.dtype, [segment])
            yield {key: np.ascontiguousarray(found[key]) for key in found.dtype.names or ()}

    def digest(self) -> str:
        """Return the SHA-256 of every step in hexadecimal: equal ones have equal steps, episodes and environments."""
        hashed = hashlib.sha256()
        for episode in self.episodes():
            hashed.update(repr((episode.env, episode.start, episode.length, episode.finished)).encode())
            for steps in self.steps(episode):
                for key in sorted(steps):
                    hashed.update(steps[key].tobytes())
        return hashed.hexdigest()

    def leave_out_shared(self, other: "ReplayReader") -> int:
        """Leave out the first steps of each environment if another replay begins with them, too.

        Two runs with one seed begin with the same random play, bit for bit, and differ for good from the first action
        that differs. Episodes are compared by their number, from the first that both still hold; what lies before it
        cannot be compared, and is left out, too.

        Args:
            other: a replay with steps of the same shapes.

        Returns:
            Steps that were left out.
        """
        before = self.num_steps
        for own, others in zip(self._index.envs, other._index.envs, strict=False):
            theirs = {episode.id: episode for episode in others}
            while own and theirs and (start := self._first_difference(own[0], theirs, other)) > own[0].start:
                self._index.num_steps -= start - own[0].start
                own[0].start = start
                if own[0].num_steps:
                    break
                own.popleft()
        return before - self.num_steps

    def _first_difference(self, own: Episode, theirs: Mapping[int, Episode], other: "ReplayReader") -> int:
        """Return the first step of an episode that another replay does not have; `own.start` for all of them."""
        their = theirs.get(own.id)
        if their is None:
            return own.length if own.id < min(theirs) else own.start
        stop = min(own.length, their.length)
        for start in range(max(own.start, their.start), stop, _AT_ONCE):
            ids = [(own.id << STEP_BITS) + t for t in (start, min(start + _AT_ONCE, stop))]
            pairs = zip(self._read(*ids), other._read(*ids), strict=True)
            for t, (one, another) in enumerate(pairs, start):
                if one != another:
                    return t
        return max(own.start, their.start, stop)

    def windows(self, rng: np.random.Generator, length: int, count: int) -> Step:
        """Draw windows of consecutive steps of one environment, all equally likely, across the borders of episodes.

        Args:
            rng: source of the draws.
            length: T, steps of each window.
            count: B, windows.

        Returns:
            Arrays [T, B, …] by key. The first step of each window is marked `is_first`, as in training.

        Raises:
            ReplayError: if no environment has as many steps, or one of them is damaged.
        """
        if self.longest < length:
            raise ReplayError(
                f"The replay at {self.path} holds {self.longest} steps in a row at its last checkpoint, but {length} "
                "are needed. Let the run continue, or ask for fewer."
            )
        return read_windows(self._read, self._database.dtype, draw_across_episodes(self._index, length, count, rng))

    def endings(self, rng: np.random.Generator, length: int, count: int) -> Step | None:
        """Read windows whose last step is that of a finished episode, for what happens there is rare.

        Args:
            rng: chooses the episodes, each at most once.
            length: T, steps of each window, which may begin in an earlier episode.
            count: at most this many windows.

        Returns:
            Arrays [T, B, …] by key as from `windows`; None if no episode has ended late enough.
        """
        first, _ = self._index.spans()
        fitting = [each for each in self._index.finished if each.num_steps and each.stop - length >= first[each.env]]
        if not fitting:
            return None
        chosen = [fitting[number] for number in rng.permutation(len(fitting))[:count]]
        windows = [self._index.segments(each.env, each.stop - length, length) for each in chosen]
        return read_windows(self._read, self._database.dtype, windows)

    def _read(self, first: int, stop: int) -> list[bytes]:
        found = self._database.read(first, stop)
        if len(found) < stop - first:
            raise self._database.damaged_step(first + len(found))
        return found
