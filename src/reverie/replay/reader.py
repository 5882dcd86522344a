"""A replay for reading only: nothing in its folder changes, and the run that writes it may continue."""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReplayError
from reverie.replay.database import Database
from reverie.replay.index import Commit, Episode
from reverie.replay.sampling import read_steps, read_windows, window_in_envs
from reverie.specs import ArraySpec, Step

_AT_ONCE = 256  # steps that are read at a time


class ReplayReader:
    """The steps of a replay at a commit. Use it as a context manager; the file is seen as it was when it was opened.

    Args:
        path: SQLite file of the replay.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        commit: as from `ReplayBuffer.commit`; None is the last one.
    """

    def __init__(self, path: Path, steps: Mapping[str, ArraySpec], commit: Any = None) -> None:
        self.path = Path(path)
        self._database = Database(self.path, steps, read_only=True)
        try:
            chosen = self._database.commits()[-1] if commit is None else Commit.from_json(commit)
            self._index = self._database.index(chosen)
        except BaseException:
            self._database.close()
            raise
        self._first, self._stop = self._index.spans()

    def __enter__(self) -> "ReplayReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    @property
    def num_steps(self) -> int:
        """Steps of the commit, without those that `leave_out_shared` has left out."""
        return int((self._stop - self._first).sum())

    @property
    def longest(self) -> int:
        """Most steps of one environment in a row."""
        return int((self._stop - self._first).max(initial=0))

    def episodes(self) -> list[Episode]:
        """Return the episodes of each environment in order, running ones included."""
        return [episode for episodes in self._index.envs for episode in episodes]

    def steps(self, episode: Episode) -> Iterator[Step]:
        """Yield the steps of an episode in order, arrays [K, …] by key."""
        for start in range(0, episode.length, _AT_ONCE):
            segment = (episode, start, min(start + _AT_ONCE, episode.length))
            found = read_steps(self._database.read, self._database.dtype, [segment])
            yield {key: np.ascontiguousarray(found[key]) for key in found.dtype.names or ()}

    def digest(self) -> str:
        """Return the SHA-256 of every step in hexadecimal: equal ones have equal steps, episodes and environments."""
        hashed = hashlib.sha256()
        for episode in self.episodes():
            hashed.update(repr((episode.env, episode.length, episode.finished)).encode())
            for steps in self.steps(episode):
                for key in sorted(steps):
                    hashed.update(steps[key].tobytes())
        return hashed.hexdigest()

    def leave_out_shared(self, other: "ReplayReader") -> int:
        """Leave out the first steps of each environment if another replay begins with them, too; return how many.

        Two runs with one seed begin with the same random play, bit for bit, and differ for good from the first action
        that differs. Episodes are compared by their number, from the first that both still hold; what lies before it
        cannot be compared, and is left out, too.
        """
        before = self.num_steps
        for own, others in zip(self._index.envs, other._index.envs, strict=False):
            theirs = {episode.id: episode for episode in others}
            for episode in own if theirs else ():
                num_common = episode.length
                if episode.id >= min(theirs):
                    num_common = min(num_common, theirs[episode.id].length) if episode.id in theirs else 0
                    steps = (each._database.intact_steps(episode.id, 0, num_common) for each in (self, other))
                    num_common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*steps, strict=False)))
                self._first[episode.env] = episode.offset + num_common
                if num_common < episode.length:
                    break
        return before - self.num_steps

    def windows(self, rng: np.random.Generator, length: int, count: int) -> Step:
        """Draw `count` windows of `length` steps of one environment, uniformly and across the borders of episodes.

        Returns arrays [T, B, …] by key. The first step of each window is marked `is_first`, as in training.
        """
        if self.longest < length:
            raise ReplayError(
                f"The replay at {self.path} holds {self.longest} steps in a row at its last checkpoint, but {length} "
                "are needed. Let the run continue, or ask for fewer."
            )
        return self._read_windows(window_in_envs(self._first, self._stop, length, count, rng), length)

    def endings(self, rng: np.random.Generator, length: int, count: int) -> Step | None:
        """Read at most `count` windows as from `windows` whose last step is that of a finished episode, each once.

        What happens there is rare. None if no episode has ended late enough.
        """
        fitting = [each for each in self._index.finished if each.stop - length >= self._first[each.env]]
        if not fitting:
            return None
        chosen = [fitting[number] for number in rng.permutation(len(fitting))[:count]]
        return self._read_windows([(each.env, each.stop - length) for each in chosen], length)

    def _read_windows(self, places: list[tuple[int, int]], length: int) -> Step:
        windows = [self._index.segments(env, first, length) for env, first in places]
        return read_windows(self._database.read, self._database.dtype, windows)
