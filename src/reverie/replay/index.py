"""Episodes of a replay in memory, and the rule by which they are evicted. Reads no files."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.errors import ReplayError

Integers = NDArray[np.int64]

STEP_BITS = 24
"""Bits of a step's id that number it within its episode: id = episode << 24 | t."""
MAX_LENGTH = 1 << STEP_BITS
_MAX = 1 << 38  # episodes; their steps' ids fit SQLite's 63 bits


@dataclass(slots=True)
class Episode:
    """Steps `start` to `length - 1` of an episode; earlier ones were evicted."""

    id: int
    env: int
    start: int = 0
    length: int = 0
    """Steps, the reset step and those before `start` included."""
    finished: int | None = None
    """Number of episodes that finished before this one; None while it is running."""
    offset: int = 0
    """Number of the reset step among all steps of the environment, evicted ones included."""

    @property
    def num_steps(self) -> int:
        """Steps that are stored."""
        return self.length - self.start

    @property
    def first(self) -> int:
        """Number of the first stored step among all steps of the environment."""
        return self.offset + self.start

    @property
    def stop(self) -> int:
        """One past the number of the last step among all steps of the environment."""
        return self.offset + self.length


class Segment(NamedTuple):
    """Consecutive steps of one episode."""

    episode: Episode
    start: int
    stop: int


class OpenEpisode(NamedTuple):
    """A running episode at a commit."""

    id: int
    start: int
    length: int


@dataclass(frozen=True)
class Commit:
    """What the replay held at a checkpoint, in a few numbers."""

    identity: int
    """Random number of the replay."""
    num_steps: int = field(compare=False)
    """Steps; fewer than in the checkpoint where a repair has removed some since."""
    episodes: int
    """Episodes begun so far, evicted ones included."""
    finished: int
    """Episodes finished so far, evicted ones included."""
    oldest: int
    """`Episode.finished` of the oldest finished episode that is stored; `finished` if there is none."""
    start: int
    """Evicted steps of that episode."""
    open: tuple[OpenEpisode | None, ...]
    """Running episode of each environment."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for `from_json`."""
        return asdict(self) | {"open": [None if each is None else list(each) for each in self.open]}

    @classmethod
    def from_json(cls, data: Any) -> "Commit":
        """Invert `to_json`.

        Raises:
            ReplayError: if `data` is anything else.
        """
        try:
            opened = tuple(None if each is None else OpenEpisode(*each) for each in data["open"])
            commit = cls(**{**data, "open": opened})
            if not commit._is_possible():
                raise ValueError("contradictory numbers")
        except (KeyError, TypeError, ValueError) as error:
            raise ReplayError(f"This is not a commit of a replay: {str(data)[:80]}.") from error
        return commit

    def _is_possible(self) -> bool:
        opened = [each for each in self.open if each is not None]
        return (
            _are_ordered(0, self.identity, 1 << 62)
            and _are_ordered(0, self.num_steps, self.episodes * MAX_LENGTH)
            and _are_ordered(0, self.oldest, self.finished, self.episodes, _MAX)
            and _are_ordered(0, self.start, MAX_LENGTH)
            and all(_are_ordered(0, each.start, each.length, MAX_LENGTH) for each in opened)
            and all(_are_ordered(0, each.id, self.episodes - 1) for each in opened)
            and len({each.id for each in opened}) == len(opened)
        )


def is_episode(values: tuple[Any, ...]) -> bool:
    """Return whether a row of the table `episodes` (id, env, start, length, finished) can be one."""
    number, env, start, length, finished = values
    return (
        _are_ordered(0, number, _MAX)
        and _are_ordered(0, env, 1 << 16)
        and _are_ordered(0, start, length, MAX_LENGTH)
        and (finished is None or _are_ordered(0, finished, _MAX))
    )


def _are_ordered(*values: object) -> bool:
    """Return whether these are integers, none smaller than the one before."""
    numbers = [value for value in values if type(value) is int]
    return len(numbers) == len(values) and all(one <= other for one, other in pairwise(numbers))


class EpisodeIndex:
    """Stored episodes by environment and in the order in which they finished.

    While more than `capacity` steps are stored, the episode that finished first is evicted as a whole. Two exceptions
    keep the bound strict and the replay usable where a few episodes fill it: the only episode that can be sampled
    loses its first steps instead, as long as it stays long enough; and where no finished episode is left, the longest
    running one loses its first steps.

    Args:
        num_envs: environments.
        capacity: most steps that are stored.
        min_length: least number of steps of an episode that can be sampled, its reset step included.
    """

    def __init__(self, num_envs: int, capacity: int, min_length: int) -> None:
        self.capacity = capacity
        self.min_length = min_length
        self.envs: list[deque[Episode]] = [deque() for _ in range(num_envs)]
        """Episodes of each environment in order; the last one may be running."""
        self.finished: deque[Episode] = deque()
        self.eligible: deque[Episode] = deque()
        """Finished episodes that can be sampled."""
        self.num_steps = 0
        self.num_begun = 0
        """Episodes begun so far, evicted ones included."""
        self.num_finished = 0

    def running(self, env: int) -> Episode | None:
        """Return the running episode of an environment."""
        last = self.envs[env][-1] if self.envs[env] else None
        return last if last and last.finished is None else None

    def begin(self, env: int) -> Episode:
        """Begin an episode; a running one finishes."""
        episode = Episode(self.num_begun, env)
        self.put(episode)
        return episode

    def put(self, episode: Episode) -> None:
        """Append an episode to its environment, after all others."""
        self.finish(episode.env)
        episodes = self.envs[episode.env]
        episode.offset = (episodes[-1].stop if episodes else 0) - episode.start
        episodes.append(episode)
        self.num_begun = max(self.num_begun, episode.id + 1)
        self.num_steps += episode.num_steps
        if episode.finished is not None:
            self._put_finished(episode)

    def extend(self, episode: Episode, count: int = 1) -> None:
        """Append steps to a running episode; call `evict` afterwards."""
        episode.length += count
        self.num_steps += count

    def finish(self, env: int) -> Episode | None:
        """Finish the running episode of an environment and return it; None if there is none."""
        episode = self.running(env)
        if episode:
            episode.finished = self.num_finished
            self._put_finished(episode)
        return episode

    def _put_finished(self, episode: Episode) -> None:
        assert episode.finished is not None
        self.finished.append(episode)
        if episode.num_steps >= self.min_length:
            self.eligible.append(episode)
        self.num_finished = episode.finished + 1

    def evict(self) -> None:
        """Drop steps until the capacity is kept."""
        while (excess := self.num_steps - self.capacity) > 0:
            if self.finished:
                episode = self.finished[0]
                is_last = len(self.eligible) == 1 and self.eligible[0] is episode
                if is_last and episode.num_steps > self.min_length:
                    dropped = min(episode.num_steps - self.min_length, excess)
                else:
                    dropped = episode.num_steps
                    self.finished.popleft()
                    self.envs[episode.env].popleft()
                    if self.eligible and self.eligible[0] is episode:
                        self.eligible.popleft()
            else:
                running = [episodes[-1] for episodes in self.envs if episodes]
                episode, dropped = max(running, key=lambda each: each.num_steps), 1
            episode.start += dropped
            self.num_steps -= dropped

    def spans(self) -> tuple[Integers, Integers]:
        """Number of the first stored step of each environment, and one past its last: int64 [N] each."""
        spans = [(each[0].first, each[-1].stop) if each else (0, 0) for each in self.envs]
        first, stop = np.array(spans, np.int64).reshape(-1, 2).T
        return first, stop

    def segments(self, env: int, first: int, count: int) -> list[Segment]:
        """Find the episodes that hold consecutive steps of an environment, all of which are stored."""
        episodes = self.envs[env]
        number = bisect_right(episodes, first, key=lambda each: each.first) - 1
        found = []
        while count:
            episode = episodes[number]
            start = first - episode.offset
            stop = min(start + count, episode.length)
            if start < stop:
                found.append(Segment(episode, start, stop))
            first, count, number = first + stop - start, count - (stop - start), number + 1
        return found

    def commit(self, identity: int) -> Commit:
        """Describe the present state."""
        oldest = self.finished[0] if self.finished else None
        running = [self.running(env) for env in range(len(self.envs))]
        return Commit(
            identity,
            self.num_steps,
            self.num_begun,
            self.num_finished,
            self.num_finished if oldest is None or oldest.finished is None else oldest.finished,
            oldest.start if oldest else 0,
            tuple(OpenEpisode(each.id, each.start, each.length) if each else None for each in running),
        )

    @classmethod
    def at(
        cls,
        commit: Commit,
        num_envs: int,
        capacity: int,
        min_length: int,
        stored: Iterable[Episode],
        first_steps: Mapping[int, int],
    ) -> "EpisodeIndex":
        """Return the state that a commit describes.

        Args:
            commit: the state.
            num_envs: environments now, if there are more than at the commit.
            capacity: most steps that are stored; `evict` is left to the caller.
            min_length: see the class.
            stored: all episodes on the disk, also those that the commit does not hold.
            first_steps: the first step on the disk of each episode that ran at the commit, by id.
        """
        index = cls(max(num_envs, len(commit.open)), capacity, min_length)
        opened = {each.id for each in commit.open if each is not None}
        for episode in sorted(
            (each for each in stored if each.finished is not None), key=lambda each: each.finished or 0
        ):
            if episode.id in opened or not commit.oldest <= (episode.finished or 0) < commit.finished:
                continue
            if episode.finished == commit.oldest:
                episode.start = max(episode.start, commit.start)
            index.put(episode)
        for env, each in enumerate(commit.open):
            if each is not None:
                start = min(max(each.start, first_steps.get(each.id, each.length)), each.length)
                index.put(Episode(each.id, env, start, each.length))
        index.num_begun, index.num_finished = commit.episodes, commit.finished
        return index
