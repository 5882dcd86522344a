"""Whether a replay is what was stored: every byte that training would read is compared with its checksum."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from reverie.errors import ReplayError
from reverie.replay.index import Lost, Position, Stream
from reverie.replay.index_file import INDEX, IndexFile, read_index, write_index
from reverie.replay.segments import SegmentStore, disk_errors
from reverie.specs import ArraySpec

_MISSING = 1000
"""Segments that may be missing before an index is taken for wrong."""


class ReplayDamage(NamedTuple):
    """One thing that is wrong."""

    file: str
    """Its name in the folder."""
    what: str
    """End of a sentence that begins with the file."""


@dataclass(frozen=True)
class ReplayHealth:
    """What was found."""

    steps: int = 0
    """Rows that were compared."""
    given_up: int = 0
    """Rows that are left out since an earlier repair."""
    checked: bool = True
    """Whether rows have checksums. Those of version 1 have none: only files that are missing or too short are found."""
    damage: list[ReplayDamage] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    """The damaged rows."""


def examine(
    directory: Path, steps: Mapping[str, ArraySpec], positions: Sequence[Any] = (), alone: bool = False
) -> ReplayHealth:
    """Read every row that the last two commits hold, and compare it. Nothing is changed.

    Args:
        directory: folder of the replay.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        positions: of checkpoints, which must fit the rows.
        alone: read only the rows that these positions hold.

    Returns:
        All damage, none if the replay is sound.
    """
    try:
        stored = read_index(directory, steps)
        counted = [Position.from_json(position) for position in positions]
    except ReplayError as error:
        return ReplayHealth(damage=[ReplayDamage(INDEX, f"cannot be used: {error}")])
    if stored is None:
        return ReplayHealth(damage=[ReplayDamage(INDEX, "is missing")])
    store = SegmentStore(directory, steps, stored.segment_steps, stored.identity)
    try:
        return _compare(store, stored, counted, alone)
    finally:
        store.close()


def repair(directory: Path, steps: Mapping[str, ArraySpec], positions: Sequence[Any] = ()) -> int:
    """Give up the rows that are damaged: they are never drawn again. Nobody may write the replay meanwhile.

    Args:
        directory: folder of the replay.
        steps: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        positions: of checkpoints, which must fit the rows.

    Returns:
        Rows that were given up.

    Raises:
        ReplayError: if the index is damaged, or the disk does not let us.
    """
    health = examine(directory, steps, positions)
    with disk_errors(directory):
        stored = read_index(directory, steps)
        if stored is None:
            return 0
        store = SegmentStore(directory, steps, stored.segment_steps, stored.identity)
        for each in health.damage:
            if (path := directory / each.file).is_file() and each.file != INDEX:
                store.mend_header(path)
        write_index(directory, steps, replace(stored, lost=[*stored.lost, *health.lost]))
    return sum(gap.stop - gap.first for gap in health.lost)


def _compare(store: SegmentStore, stored: IndexFile, counted: Sequence[Position], alone: bool) -> ReplayHealth:
    positions = counted if alone else [*stored.commits, *counted]
    spans = [_span(stored.commits, number) for number in range(max(len(c.streams) for c in stored.commits))]
    if alone:
        spans = [_both(span, _span(counted, number)) for number, span in enumerate(spans)]
    if sum(len(span) // store.steps for span in spans) > 2 * len(list(store.directory.glob("stream-*"))) + _MISSING:
        return ReplayHealth(damage=[ReplayDamage(INDEX, "counts far more steps than there are files for")])
    damage: list[ReplayDamage] = []
    lost: list[Lost] = []
    given_up = 0
    for number, span in enumerate(spans):
        states = [position.streams[number] for position in positions if number < len(position.streams)]
        before = {row for gap in stored.lost if gap.stream == number for row in range(gap.first, gap.stop)}
        bad = _damaged_rows(store, number, span, states) - before
        damage += _by_segment(store, number, span, bad, before)
        lost += _runs(number, sorted(bad))
        given_up += len(before)
    if any(
        number >= len(spans) or state.stop > spans[number].stop
        for position in positions
        for number, state in enumerate(position.streams)
    ):
        damage.append(ReplayDamage(INDEX, "counts fewer steps than a checkpoint does"))
    return ReplayHealth(sum(map(len, spans)) - given_up, given_up, stored.identity is not None, damage, lost)


def _span(commits: Sequence[Position], number: int) -> range:
    """Rows of a stream that one of the commits remembers."""
    streams = [commit.streams[number] for commit in commits if number < len(commit.streams)]
    holding = [stream for stream in streams if stream.steps] or [Stream()]
    return range(min(stream.first for stream in holding), max(stream.stop for stream in holding))


def _both(span: range, other: range) -> range:
    """Rows of two spans."""
    return range(max(span.start, other.start), min(span.stop, other.stop))


def _damaged_rows(store: SegmentStore, stream: int, span: range, states: Sequence[Stream]) -> set[int]:
    """Rows that are not what was stored, or, where positions end, not what was counted."""
    # The newest row may be in the middle of being marked: its checksum is that of a position or the row is damaged.
    bad = set(store.damaged_rows(stream, span.start, span.stop - 1)) if span else set()
    for state in states:
        if state.steps and state.stop - 1 in span:
            try:
                fits = _holds(store, stream, state)
            except (OSError, ReplayError):
                fits = False
            if not fits:
                bad.add(state.stop - 1)
    return bad


def _holds(store: SegmentStore, stream: int, state: Stream) -> bool:
    """Whether the newest row of a stream is the one that a position counted, its mark of an early end aside."""
    row, before = store.read_unchecked(stream, state.stop - 1)
    if state.open_since is not None:
        row["is_last"][:] = False
    return store.checksum(stream, state.stop - 1, row, before) == state.checksum


def _by_segment(
    store: SegmentStore, stream: int, span: range, bad: set[int], given_up: set[int]
) -> Iterator[ReplayDamage]:
    """Damage of each file. One that only holds rows that were given up may be gone."""
    for segment in range(span.start // store.steps, -(-span.stop // store.steps)) if span else ():
        path, begin = store.path(stream, segment), segment * store.steps
        rows = _both(span, range(begin, begin + store.steps))
        here = sorted(row - begin for row in bad if row in rows)
        if given_up.issuperset(rows):
            continue
        if what := store.damaged_header(path):
            yield ReplayDamage(path.name, what)
        elif here:
            rows_text = f"rows {here[0]} to {here[-1]} are" if len(here) > 1 else f"row {here[0]} is"
            count = f"{len(here)} of the " if 1 < len(here) <= here[-1] - here[0] else ""
            yield ReplayDamage(path.name, f"is damaged: {count}{rows_text} not what was stored")


def _runs(stream: int, rows: Sequence[int]) -> Iterator[Lost]:
    """Consecutive rows together."""
    first = 0
    for i, row in enumerate(rows):
        if i + 1 == len(rows) or rows[i + 1] != row + 1:
            yield Lost(stream, rows[first], row + 1)
            first = i + 1
