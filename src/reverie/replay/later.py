"""Rows that were stored after a commit: which of them follow it without a gap, and can be counted again."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from reverie.errors import ReplayError
from reverie.replay.index import EpisodeIndex, Stream
from reverie.replay.segments import SegmentStore


class TakenBack(NamedTuple):
    """What `take_back` has found."""

    steps: int
    """Agent steps; the rows of resets are not counted."""
    episodes: int
    """Ends of episodes among them."""


class Later(NamedTuple):
    """A row beyond those that the index counts."""

    is_first: bool
    is_last: bool
    checksum: int


def later_rows(segments: SegmentStore, number: int, state: Stream) -> Iterator[Later]:
    """Rows of a stream beyond its newest one, in order, as far as they were stored whole.

    The checksum of a row covers that of the row before. So a row of another past, which a run that had gone on from the
    same commit left behind, is told from one that belongs here as surely as a row that is half written. A replay
    without checksums has none.

    Args:
        segments: of the replay.
        number: of the stream.
        state: of the stream; only looked at before the first row is yielded.
    """
    if segments.identity is None:
        return
    row, is_open, before = state.stop, state.open_since is not None, state.checksum
    while True:
        try:
            data, _ = segments.read_unchecked(number, row)
            stored = segments.stored_checksum(number, row)
            if data["is_first"][0] and is_open:
                # The episode that is open at the commit was ended by this row, with a mark that going back has removed.
                last, earlier = segments.read_unchecked(number, row - 1)
                last["is_last"][:] = True
                before = segments.checksum(number, row - 1, last, earlier)
        except (OSError, ReplayError):  # no such segment, or not all of it
            return
        follows = is_open or data["is_first"][0]
        if not follows or segments.checksum(number, row, data, before) != stored:
            return
        later = Later(bool(data["is_first"][0]), bool(data["is_last"][0]), stored)
        yield later
        row, is_open, before = row + 1, not later.is_last, stored


def take_back(
    segments: SegmentStore, index: EpisodeIndex, streams: Iterable[int], end_episode: Callable[[int], object]
) -> TakenBack:
    """Count the later rows of some streams again, in turns, which is about as they were stored.

    Args:
        segments: of the replay.
        index: that counts them from now on; it may hold more than its capacity afterwards.
        streams: their numbers.
        end_episode: marks the newest step of a stream as its episode's last one, if that is open.
    """
    steps = episodes = 0
    rows = {stream: later_rows(segments, stream, index.streams[stream]) for stream in streams}
    while rows:
        for stream in list(rows):
            later = next(rows[stream], None)
            if later is None:
                del rows[stream]
                continue
            if later.is_first:
                end_episode(stream)
            index.append(stream, *later)
            steps += not later.is_first
            episodes += later.is_last
    return TakenBack(steps, episodes)
