"""Which stored rows form which episodes, and which of them are forgotten first. Touches no files.

Every stream numbers its rows from 0 for ever; those from `first` to `stop` - 1 are remembered. Rows of one stream
follow each other without gaps: finished episodes, then at most one that is still open. Finished episodes of all
streams stand in one log in the order in which they finished, and are numbered from 0 for ever as well. A *position* is
therefore a few numbers, and going back to one needs no copy of anything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.errors import ReplayError

Integers = NDArray[np.int64]


@dataclass
class Stream:
    """Rows of one stream."""

    first: int = 0
    """Oldest row that is remembered."""
    stop: int = 0
    """One past the newest row."""
    open_since: int | None = None
    """First row of the unfinished episode, which may be forgotten already; None between episodes."""
    checksum: int = 0
    """Of the newest row."""

    @property
    def steps(self) -> int:
        """Rows that are remembered."""
        return self.stop - self.first


@dataclass
class Position:
    """A state of the index that it can go back to, as it stands in checkpoints."""

    episodes: int
    """Episodes finished so far."""
    evicted: int
    """How many of them were forgotten, oldest first."""
    streams: list[Stream]

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)

    @staticmethod
    def from_json(data: Any) -> "Position":
        """Inverse of `to_json`.

        Raises:
            ReplayError: if it is something else.
        """
        try:
            streams = [Stream(s["first"], s["stop"], s["open_since"], s.get("checksum", 0)) for s in data["streams"]]
            position = Position(data["episodes"], data["evicted"], streams)
        except (KeyError, TypeError, AttributeError) as error:
            raise ReplayError(f"This is not a position of a replay: {str(data)[:100]}.") from error
        if not position.is_possible():
            raise ReplayError(f"This is not a position of a replay: {str(data)[:100]}.")
        return position

    def is_possible(self) -> bool:
        """Whether all of it are numbers that can belong together."""
        return _are_ordered(0, self.evicted, self.episodes) and all(
            _are_ordered(0, stream.first, stream.stop)
            and _are_ordered(0, stream.checksum)
            and (stream.open_since is None or _are_ordered(0, stream.open_since, stream.stop))
            for stream in self.streams
        )


class Lost(NamedTuple):
    """Rows of one stream that are damaged and have been given up: they are never drawn."""

    stream: int
    first: int
    stop: int


def sound_pieces(limits: Sequence[Sequence[int]], lost: Sequence[Lost]) -> Integers:
    """What is left of streams without lost rows: int64 [P, 3], stream, first row and one past the last.

    Args:
        limits: first row of each stream, and one past its last.
        lost: in any order.
    """
    pieces = []
    for number, (first, stop) in enumerate(limits):
        for gap in sorted(gap for gap in lost if gap.stream == number and first < gap.stop and gap.first < stop):
            if first < gap.first:
                pieces.append((number, first, gap.first))
            first = max(first, gap.stop)
        if first < stop:
            pieces.append((number, first, stop))
    return np.array(pieces, np.int64).reshape(-1, 3)


def _are_ordered(*values: object) -> bool:
    """Whether these are integers below 2**62, none smaller than the one before."""
    numbers = [value for value in values if type(value) is int and value < 1 << 62]
    return len(numbers) == len(values) and all(one <= other for one, other in pairwise(numbers))


class _Fifo:
    """Rows of integers, first in, first out, readable as one array without copying."""

    def __init__(self, width: int, rows: Sequence[Sequence[int]] | Integers = ()) -> None:
        self._data = np.empty((max(64, 2 * len(rows)), width), np.int64)
        self._data[: len(rows)] = np.asarray(rows, np.int64).reshape(-1, width)
        self._head, self._tail = 0, len(rows)

    def __len__(self) -> int:
        return self._tail - self._head

    @property
    def rows(self) -> Integers:
        return self._data[self._head : self._tail]

    def append(self, row: Iterable[int]) -> None:
        if self._tail == len(self._data):
            kept = self.rows.copy()
            if 2 * len(kept) > len(self._data):
                self._data = np.empty((2 * len(self._data), self._data.shape[1]), np.int64)
            self._data[: len(kept)] = kept
            self._head, self._tail = 0, len(kept)
        self._data[self._tail] = tuple(row)
        self._tail += 1

    def drop_oldest(self, count: int = 1) -> None:
        self._head += count

    def keep_oldest(self, count: int) -> None:
        self._tail = self._head + count


class EpisodeIndex:
    """Streams, their episodes, and the rule by which they are forgotten.

    While more than `capacity` steps are remembered, the episode that finished first is forgotten as a whole. Two
    exceptions keep the bound strict and the replay usable when a few episodes fill it: the only episode that can be
    sampled is shortened from its start instead, as long as it stays long enough; and where no finished episode is
    left, the longest open one is shortened.

    Args:
        num_streams: streams, which start empty.
        capacity: steps that are remembered.
        min_total: least number of steps of an episode that can be sampled, its reset step included.
    """

    def __init__(self, num_streams: int, capacity: int, min_total: int) -> None:
        self.capacity = capacity
        self.min_total = min_total
        self.streams = [Stream() for _ in range(num_streams)]
        self.lost: list[Lost] = []
        self.num_steps = 0
        self.base = 0
        """Number of the first episode in the log; those before it are beyond recall."""
        self.evicted = 0
        """Number of the oldest episode that is remembered."""
        self._log = _Fifo(3)  # stream, first row, steps; as they were finished, before any shortening
        self._eligible = _Fifo(1)  # numbers of the episodes that can be sampled

    @property
    def finished(self) -> int:
        """Episodes finished so far, the forgotten ones included."""
        return self.base + len(self._log)

    @property
    def num_eligible(self) -> int:
        """Episodes that can be sampled."""
        return len(self._eligible)

    @property
    def log(self) -> Integers:
        """Episodes from number `base` on, int64 [E, 3]: stream, first row and steps, as they were finished."""
        return self._log.rows

    def all_episodes(self) -> Integers:
        """All finished episodes that are remembered, int64 [E, 3]: stream, first remembered row and steps."""
        return self._remembered(self.log[self.evicted - self.base :])

    def eligible_episodes(self, numbers: Integers) -> Integers:
        """Some of those that can be sampled, int64 [B, 3]; `numbers` are from 0 to `num_eligible` - 1."""
        return self._remembered(self.log[self._eligible.rows[numbers, 0] - self.base])

    def append(self, stream: int, is_first: bool, is_last: bool, checksum: int) -> None:
        """Count one more row of a stream; call `evict` afterwards."""
        state = self.streams[stream]
        if is_first:
            self.close(stream)
            state.open_since = state.stop
        state.stop += 1
        state.checksum = checksum
        self.num_steps += 1
        if is_last:
            self.close(stream)

    def close(self, stream: int) -> None:
        """Finish the open episode of a stream, if there is one."""
        state = self.streams[stream]
        if state.open_since is None:
            return
        start = max(state.open_since, state.first)
        if state.stop - start >= self.min_total and self.is_whole(stream, start, state.stop):
            self._eligible.append((self.finished,))
        self._log.append((stream, state.open_since, state.stop - state.open_since))
        state.open_since = None

    def is_whole(self, stream: int, first: int, stop: int) -> bool:
        """Whether none of these rows is lost."""
        return not any(gap.stream == stream and first < gap.stop and gap.first < stop for gap in self.lost)

    def pieces(self) -> Integers:
        """Remembered rows without those that are lost, see `sound_pieces`."""
        return sound_pieces([(stream.first, stream.stop) for stream in self.streams], self.lost)

    def evict(self) -> bool:
        """Forget steps until the capacity is kept; True if there were any."""
        before = self.num_steps
        while self.num_steps > self.capacity:
            if self.evicted == self.finished:
                state = max(self.streams, key=lambda state: state.steps)
                forgotten = 1
            else:
                stream, start, total = (int(value) for value in self._log.rows[self.evicted - self.base])
                state = self.streams[stream]
                forgotten = start + total - state.first
                if self._is_last_eligible() and forgotten > self.min_total:
                    forgotten = min(forgotten - self.min_total, self.num_steps - self.capacity)
                else:
                    self._drop_oldest()
            state.first += forgotten
            self.num_steps -= forgotten
        return self.num_steps != before

    def position(self) -> Position:
        """The present state."""
        return Position(self.finished, self.evicted, [Stream(**asdict(stream)) for stream in self.streams])

    def restore(
        self, position: Position, floor: Position | None = None, base: int = 0, log: Integers | None = None
    ) -> None:
        """Go back to a position.

        Args:
            position: where to.
            floor: a position before which data are gone from the disk; what is older stays forgotten.
            base: number of the first episode of `log`.
            log: episodes that replace the present log; None keeps it.

        Raises:
            ReplayError: if the position lies ahead of the log.
        """
        if log is not None:
            self.base, self._log = base, _Fifo(3, log)
        if position.episodes > self.finished:
            raise ReplayError(
                f"The replay holds {self.finished} episodes, but the checkpoint was written after "
                f"{position.episodes}: they do not belong together."
            )
        self._log.keep_oldest(max(position.episodes - self.base, 0))
        self.base = min(self.base, position.episodes)
        self.evicted = max(position.evicted, self.base)
        extra = [Stream() for _ in range(len(self.streams) - len(position.streams))]
        self.streams = [Stream(**asdict(stream)) for stream in position.streams] + extra
        if floor is not None:
            self.evicted = min(max(self.evicted, floor.evicted), position.episodes)
            for stream, oldest in zip(self.streams, floor.streams, strict=False):
                stream.first = min(max(stream.first, oldest.first), stream.stop)
        self.num_steps = sum(stream.steps for stream in self.streams)
        stops = [stream.stop for stream in self.streams]  # Rows after these are written anew.
        self.lost = [
            Lost(gap.stream, gap.first, min(gap.stop, stops[gap.stream]))
            for gap in self.lost
            if gap.first < stops[gap.stream]
        ]
        episodes = self.all_episodes()
        long_enough = episodes[:, 2] >= self.min_total
        if self.lost:
            whole = [self.is_whole(s, start, start + total) for s, start, total in episodes.tolist()]
            long_enough &= np.array(whole, np.bool_)
        self._eligible = _Fifo(1, self.evicted + np.flatnonzero(long_enough)[:, None])

    def forget_log_before(self, number: int) -> None:
        """Drop the log of episodes that no position will ask for again."""
        self._log.drop_oldest(number - self.base)
        self.base = number

    def _remembered(self, episodes: Integers) -> Integers:
        """Copy of episodes without the rows that were forgotten since they finished."""
        firsts = np.array([stream.first for stream in self.streams], np.int64)[episodes[:, 0]]
        starts = np.maximum(firsts, episodes[:, 1])
        return np.stack([episodes[:, 0], starts, episodes[:, 1] + episodes[:, 2] - starts], axis=1)

    def _is_last_eligible(self) -> bool:
        return len(self._eligible) == 1 and int(self._eligible.rows[0, 0]) == self.evicted

    def _drop_oldest(self) -> None:
        if len(self._eligible) and int(self._eligible.rows[0, 0]) == self.evicted:
            self._eligible.drop_oldest()
        self.evicted += 1
