"""Whether a replay is what was stored: every byte that training would read is compared with its checksum."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reverie.errors import ReplayError
from reverie.replay.index import Position, Stream
from reverie.replay.index_file import INDEX, read_index
from reverie.replay.segments import SegmentStore
from reverie.spaces import ArraySpec


class ReplayDamage(NamedTuple):
    """One thing that is wrong."""

    file: str
    """Its name in the folder."""
    what: str
    """End of a sentence that begins with the file."""


class ReplayHealth(NamedTuple):
    """What was found."""

    steps: int
    """Rows that were compared."""
    checked: bool
    """Whether rows have checksums. Those of version 1 have none: only files that are missing or too short are found."""
    damage: list[ReplayDamage]


def examine(
    directory: Path, steps: Mapping[str, ArraySpec], positions: Sequence[Any] = (), alone: bool = False
) -> ReplayHealth:
    """Read every row that the last two commits hold, and compare it.

    Args:
        directory: folder of the replay; nothing in it is changed.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        positions: of checkpoints, which must fit the rows.
        alone: read only the rows that these positions hold.

    Returns:
        All damage, none if the replay is sound.
    """
    try:
        stored = read_index(directory, steps)
        commits = [Position.from_json(position) for position in positions]
    except ReplayError as error:
        return ReplayHealth(0, True, [ReplayDamage(INDEX, f"cannot be used: {error}")])
    if stored is None:
        return ReplayHealth(0, True, [ReplayDamage(INDEX, "is missing")])
    store = SegmentStore(directory, steps, stored.segment_steps, stored.identity)
    try:
        spans = [_span(stored.commits, number) for number in range(max(len(c.streams) for c in stored.commits))]
        if alone:
            spans = [_both(span, _span(commits, number)) for number, span in enumerate(spans)]
        damage = [each for number, span in enumerate(spans) for each in _in_stream(store, number, span)]
        found = {each.file for each in damage}
        counted = commits if alone else [*stored.commits, *commits]
        damage += [each for each in _misfits(store, spans, counted) if each.file not in found]
        return ReplayHealth(sum(map(len, spans)), stored.identity is not None, damage)
    finally:
        store.close()


def holds(store: SegmentStore, stream: int, state: Stream) -> bool:
    """Whether the newest row of a stream is the one that a position counted, its mark of an early end aside."""
    row, before = store.read_unchecked(stream, state.stop - 1)
    if state.open_since is not None:
        row["is_last"][:] = False
    return store.checksum(stream, state.stop - 1, row, before) == state.checksum


def _span(commits: Sequence[Position], number: int) -> range:
    """Rows of a stream that one of the commits remembers."""
    streams = [commit.streams[number] for commit in commits if number < len(commit.streams)]
    holding = [stream for stream in streams if stream.steps] or [Stream()]
    return range(min(stream.first for stream in holding), max(stream.stop for stream in holding))


def _both(span: range, other: range) -> range:
    """Rows of two spans."""
    return range(max(span.start, other.start), min(span.stop, other.stop))


def _in_stream(store: SegmentStore, stream: int, span: range) -> Iterator[ReplayDamage]:
    """Damage of each segment. The newest row is left to `_misfits`, for it may be in the middle of being marked."""
    rows = span[:-1]
    damaged = set(store.damaged_rows(stream, rows.start, rows.stop)) if rows else set()
    for segment in range(span.start // store.steps, -(-span.stop // store.steps)) if span else ():
        path, begin = store.path(stream, segment), segment * store.steps
        here = sorted(row - begin for row in damaged if begin <= row < begin + store.steps)
        if what := store.damaged_header(path):
            yield ReplayDamage(path.name, what)
        elif here:
            rows_text = f"rows {here[0]} to {here[-1]} are" if len(here) > 1 else f"row {here[0]} is"
            count = f"{len(here)} of the " if 1 < len(here) <= here[-1] - here[0] else ""
            yield ReplayDamage(path.name, f"is damaged: {count}{rows_text} not what was stored")


def _misfits(store: SegmentStore, spans: Sequence[range], positions: Sequence[Position]) -> Iterator[ReplayDamage]:
    """Newest rows that are not those which commits and checkpoints counted."""
    for position in positions:
        for number, state in enumerate(position.streams):
            if number >= len(spans) or state.stop > spans[number].stop:
                yield ReplayDamage(INDEX, "counts fewer steps than a checkpoint does")
            elif state.steps and state.stop - 1 in spans[number]:
                row = state.stop - 1
                try:
                    fits = holds(store, number, state)
                except (OSError, ReplayError):
                    fits = False
                if not fits:
                    name = store.path(number, row // store.steps).name
                    yield ReplayDamage(name, f"is damaged: row {row % store.steps} is not the one that was counted")
