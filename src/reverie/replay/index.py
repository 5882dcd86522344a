"""Episodes of a replay in memory, and the rule by which they are evicted. Reads no files."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import ReplayError

Integers = NDArray[np.int64]

STEP_BITS = 24
"""Bits of a step's id that number it within its episode: id = episode << 24 | t."""
MAX_LENGTH = 1 << STEP_BITS


@dataclass(slots=True)
class Episode:
    """Consecutive steps of one environment, from a reset on, or from where a very long episode was split."""

    id: int
    env: int
    length: int = 0  # steps, the reset step included
    finished: int | None = None  # number of episodes that finished before this one; None while it is running
    offset: int = 0  # number of its first step among all steps of its environment

    @property
    def stop(self) -> int:
        """One past the number of its last step among all steps of its environment."""
        return self.offset + self.length


Segment = tuple[Episode, int, int]
"""An episode, the first of some of its steps, and one past the last."""


def are_numbers(*values: object) -> bool:
    """Return whether these are integers such that steps of as many episodes have ids of SQLite's 63 bits."""
    return all(type(value) is int and 0 <= value < 1 << 38 for value in values)


@dataclass(frozen=True)
class Commit:
    """Contents of the replay at a checkpoint, in a few numbers."""

    identity: int  # random number of the replay
    num_steps: int
    num_begun: int  # episodes, evicted ones included
    num_finished: int  # episodes, evicted ones included
    oldest: int  # `Episode.finished` of the oldest finished episode that is held; `num_finished` if there is none
    envs: tuple[tuple[int, int, int], ...]  # id and length of the running episode, or 0 and 0; steps since the reset

    @property
    def running(self) -> dict[int, int]:
        """Length of each running episode by id."""
        return {episode: length for episode, length, _ in self.envs if length}

    @classmethod
    def from_json(cls, data: Any) -> "Commit":
        """Check what `dataclasses.asdict` returned, and JSON may have changed."""
        try:
            envs = tuple((episode, length, since_reset) for episode, length, since_reset in data["envs"])
            numbers = {key: value for key, value in data.items() if key != "envs"}
            if are_numbers(*numbers.values(), *(number for env in envs for number in env)):
                return cls(**numbers, envs=envs)
        except (AttributeError, KeyError, TypeError, ValueError):
            pass
        raise ReplayError(f"This is not a commit of a replay: {str(data)[:80]}.")


class EpisodeIndex:
    """Stored episodes by environment and in the order in which they finished.

    While more than `capacity` steps are stored, the episode that finished first is evicted. The only one that can be
    sampled stays until twice the capacity is stored. Where running episodes alone fill the capacity, one that has its
    share of it is split: it finishes as truncated, and its next step begins another episode.

    Args:
        num_envs: environments.
        capacity: steps.
        min_length: least number of steps of an episode that can be sampled, its reset step included.
    """

    def __init__(self, num_envs: int, capacity: int, min_length: int) -> None:
        self.capacity, self.min_length = max(capacity, min_length), min_length
        self.envs: list[list[Episode]] = [[] for _ in range(num_envs)]  # in order; the last one may be running
        self.since_reset = [0] * num_envs  # steps of each environment; 0 between episodes
        self.finished: list[Episode] = []
        self.eligible: list[Episode] = []  # finished ones that can be sampled
        self.changed: dict[int, Episode] = {}  # those that have begun or finished since they were stored
        self.num_steps = self.num_begun = self.num_finished = 0

    def running(self, env: int) -> Episode | None:
        """Return the running episode of an environment."""
        last = self.envs[env][-1] if self.envs[env] else None
        return last if last and last.finished is None else None

    def begin(self, env: int, number: int) -> Episode:
        """Begin an episode with this id."""
        offset = self.envs[env][-1].stop if self.envs[env] else 0
        episode = self.changed[number] = Episode(number, env, offset=offset)
        self.envs[env].append(episode)
        self.num_begun = max(self.num_begun, number + 1)
        return episode

    def extend(self, episode: Episode, count: int = 1) -> None:
        """Append steps to a running episode."""
        episode.length += count
        self.num_steps += count
        self.since_reset[episode.env] += count

    def finish(self, env: int, is_reset: bool = True) -> None:
        """Finish the running episode of an environment, if there is one; without `is_reset`, it will be continued."""
        if episode := self.running(env):
            episode.finished = self.num_finished
            self.num_finished += 1
            self.changed[episode.id] = episode
            self.finished.append(episode)
            if episode.length >= self.min_length:
                self.eligible.append(episode)
        if is_reset:
            self.since_reset[env] = 0

    def must_split(self, episode: Episode) -> bool:
        """Return whether a running episode has become too long for the capacity."""
        if episode.length < min(MAX_LENGTH, max(self.capacity // len(self.envs), self.min_length)):
            return False
        running = filter(None, map(self.running, range(len(self.envs))))
        return episode.length == MAX_LENGTH or sum(each.length for each in running) >= self.capacity

    def evict(self) -> None:
        """Drop episodes until the capacity is kept."""
        while self.num_steps > self.capacity and self.finished:
            episode = self.finished[0]
            is_eligible = self.eligible[:1] == [episode]
            if is_eligible and len(self.eligible) == 1 and self.num_steps <= 2 * self.capacity:
                break
            del self.finished[0], self.envs[episode.env][0], self.eligible[: int(is_eligible)]
            self.num_steps -= episode.length

    def spans(self) -> tuple[Integers, Integers]:
        """Return the number of the first step of each environment, and one past its last: int64 [N] each."""
        spans = [(each[0].offset, each[-1].stop) if each else (0, 0) for each in self.envs]
        first, stop = np.array(spans, np.int64).reshape(-1, 2).T
        return first, stop

    def segments(self, env: int, first: int, count: int) -> list[Segment]:
        """Return consecutive steps of an environment, all of which are stored."""
        number = bisect_right(self.envs[env], first, key=lambda each: each.offset) - 1
        found: list[Segment] = []
        while count:
            episode = self.envs[env][number]
            start = first - episode.offset
            stop = min(start + count, episode.length)
            found.append((episode, start, stop))
            first, count, number = episode.stop, count - (stop - start), number + 1
        return found

    def commit(self, identity: int) -> Commit:
        """Describe the present state."""
        running = [self.running(env) or Episode(0, env) for env in range(len(self.envs))]
        envs = tuple((each.id, each.length, steps) for each, steps in zip(running, self.since_reset, strict=True))
        oldest = self.finished[0].finished if self.finished else None
        oldest = self.num_finished if oldest is None else oldest
        return Commit(identity, self.num_steps, self.num_begun, self.num_finished, oldest, envs)
