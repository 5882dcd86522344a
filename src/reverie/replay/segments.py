"""Rows of steps in files: each stream of experience is cut into segments, each a safetensors file of fixed size.

A segment is created at its full size with its header, and rows are then written in place. Space on disk is used only
for the rows written, where the file system supports sparse files. Files are read and written by position rather than
mapped: pages of a map count as the process's own memory, and a full disk would kill it instead of raising an error.

Every row has a checksum, which is compared whenever the row is read. It covers the row's place and the checksum of the
row before it as well: rows of another replay, stream, place or past are as wrong there as rows with a changed bit.
"""

import errno
import json
import os
import struct
import sys
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reverie.errors import ReplayError
from reverie.replay.syncing import Syncer
from reverie.shell import command_line
from reverie.specs import ArraySpec

SAFETENSORS_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
CHECKSUMS = "reverie.checksums"
"""Name of the array of checksums in a segment. One entry more than rows: the first is that of the row before."""
_ALIGNMENT = 4096  # Where the data begin: rows of one page, such as a 64x64 image, then touch one page each.
_AT_ONCE = 256  # Rows that are compared at a time.
_OPEN_FILES = 128  # Well below the usual limit of 1024 per process.

_CHECKSUM = np.dtype("<u4")  # CRC-32


Bytes = NDArray[np.uint8]


def remedy(replay: Path) -> str:
    """Return what to do about damage in the replay in this folder of a run, as the end of a sentence."""
    return f"type `{command_line('verify', replay.parent)}` to see all that is damaged, and what to do"


def segment_steps(capacity: int, num_streams: int) -> int:
    """Rows per segment of a new replay, a power of two from 256 to 16384.

    Few enough that the segments in which the streams begin, of which a part is forgotten, waste a small share.
    """
    wanted = max(capacity // (16 * num_streams), 1)
    return min(max(1 << (wanted.bit_length() - 1), 256), 16384)


def largest_size(specs: Mapping[str, ArraySpec], steps: int, capacity: int, num_streams: int) -> int:
    """Most bytes on the disk of a replay that holds at most so many steps; a segment is there while a row of it is."""
    rows = segment_steps(capacity, num_streams)
    layout = SegmentLayout(specs, rows)
    of_rows = sum(layout.widths.values()) + _CHECKSUM.itemsize
    return of_rows * (steps + 2 * rows * num_streams) + len(layout.header) * (steps // rows + 2 * num_streams)


def _write_all(descriptor: int, data: memoryview | bytes, position: int) -> None:
    done = 0
    while done < len(data):  # A disk that fills up takes part of the bytes first, and fails at the next attempt.
        done += os.pwrite(descriptor, data[done:], position + done)


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turn an operating system's error into one sentence.

    Raises:
        ReplayError: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ReplayError(
                f"The disk is full: the replay in {directory} cannot grow, but what it held before is intact; "
                "free some space or lower replay.capacity, then resume."
            ) from error
        raise ReplayError(
            f"The replay in {directory} cannot be read or written: {error}; "
            "check the disk, and whether files were moved or deleted."
        ) from error


class SegmentLayout:
    """Where each row of each array lies in a segment of `steps` rows.

    Attributes:
        widths: bytes of one row, by key.
        offsets: position of an array's first row in the file, by key.
        checksums: position of the checksums.
        header: the bytes before the data.
        size: bytes of the whole file.
    """

    def __init__(self, specs: Mapping[str, ArraySpec], steps: int, checked: bool = True) -> None:
        self.widths = {key: np.dtype(spec.dtype).itemsize * spec.size for key, spec in specs.items()}
        tensors: dict[str, object] = {}
        begins: dict[str, int] = {}
        position = 0
        # Widest first, so that every array starts at a multiple of its item size.
        for key in sorted(specs, key=lambda key: -self.widths[key]):
            begins[key], end = position, position + steps * self.widths[key]
            tensors[key] = {
                "dtype": SAFETENSORS_DTYPES[specs[key].dtype],
                "shape": [steps, *specs[key].shape],
                "data_offsets": [position, end],
            }
            position = end
        self.checksums = position
        if checked:
            position += _CHECKSUM.itemsize * (steps + 1)
            offsets = [self.checksums, position]
            tensors[CHECKSUMS] = {"dtype": "U32", "shape": [steps + 1], "data_offsets": offsets}
        text = json.dumps(tensors).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT)
        self.header = struct.pack("<Q", len(text)) + text
        self.offsets = {key: len(self.header) + begin for key, begin in begins.items()}
        self.checksums += len(self.header)
        self.size = len(self.header) + position


class SegmentStore:
    """Rows of all streams: row r of stream s stands in segment r // steps of that stream.

    Args:
        directory: folder of the files, which must exist.
        specs: shape and dtype of each key.
        steps: rows per segment.
        identity: number of this replay, which its checksums cover; None for one of version 1, which has none.
        sync_every: seconds after which written rows are on the disk, also without a `flush`; 0 leaves it to the system.
    """

    def __init__(
        self,
        directory: Path,
        specs: Mapping[str, ArraySpec],
        steps: int,
        identity: int | None,
        sync_every: float = 0.0,
    ) -> None:
        self.directory = directory
        self.steps = steps
        self.identity = identity
        self.layout = SegmentLayout(specs, steps, checked=identity is not None)
        self._keys = sorted(specs)
        self._readers: dict[tuple[int, int], int] = {}  # Oldest use first.
        self._writers: dict[tuple[int, int], int] = {}  # Written to since the last flush.
        self._syncer = Syncer(sync_every)
        weakref.finalize(self, self._syncer.stop)  # of a store that nobody closes

    def path(self, stream: int, segment: int) -> Path:
        """File of one segment."""
        return self.directory / f"stream-{stream:04d}-{segment:08d}.safetensors"

    def write(self, stream: int, row: int, data: Mapping[str, Bytes], before: int) -> int:
        """Write one row; its segment is created where needed.

        Args:
            stream: which.
            row: its number in the stream.
            data: by key, uint8 [bytes of one row].
            before: checksum of the row before it; 0 for the first of a stream.

        Returns:
            Checksum of the row.

        Raises:
            OSError: the row is then undefined, all others are untouched.
        """
        self._syncer.check()
        segment, line = divmod(row, self.steps)
        descriptor = self._writers.get((stream, segment))
        if descriptor is None:
            descriptor = self._writers[stream, segment] = self._create(self.path(stream, segment))
        for key, entry in data.items():
            _write_all(descriptor, entry.data, self.layout.offsets[key] + line * self.layout.widths[key])
        self._syncer.note(descriptor)
        if self.identity is None:
            return 0
        checksum = self.checksum(stream, row, data, before)
        # That of the row before stands there already, except in a new segment.
        _write_all(descriptor, np.array([before, checksum], _CHECKSUM).tobytes(), self._entry(line))
        return checksum

    def checksum(self, stream: int, row: int, data: Mapping[str, Bytes], before: int) -> int:
        """Checksum of one row that follows another; 0 in a replay without checksums."""
        if self.identity is None:
            return 0
        lines = {key: entry[None] for key, entry in data.items()}
        return self._checksums(stream, row, lines, [before])[0]

    def read(self, stream: int, row: int, out: Mapping[str, Bytes]) -> None:
        """Read consecutive rows of one stream.

        Args:
            stream: which.
            row: the first.
            out: by key, C-contiguous uint8 [rows, bytes of one row]; all keys, filled in place.

        Raises:
            ReplayError: if a segment is missing or too short, or a row does not have its checksum.
        """
        for first, befores, checksums, rows in self._read(stream, row, out):
            if self.identity is None:
                continue
            for number, checksum in enumerate(self._checksums(stream, first, rows, befores)):
                if checksum != checksums[number]:
                    raise self.damaged(stream, first + number)

    def read_unchecked(self, stream: int, row: int) -> tuple[dict[str, Bytes], int]:
        """Read one row without comparing its checksum.

        Returns:
            By key, uint8 [bytes of one row]; and the checksum of the row before it.

        Raises:
            ReplayError: if the segment is missing or too short.
        """
        out = {key: np.empty((1, width), np.uint8) for key, width in self.layout.widths.items()}
        ((_, befores, _, _),) = self._read(stream, row, out)
        return {key: rows[0] for key, rows in out.items()}, befores[0]

    def damaged_rows(self, stream: int, first: int, stop: int) -> list[int]:
        """Numbers of the rows from `first` to `stop` - 1 that are not what was stored.

        Those of a segment that is missing or too short are all named; in a replay without checksums only those.
        """
        damaged: list[int] = []
        row, end = first, None
        while row < stop:
            until = min(row + _AT_ONCE, stop, row - row % self.steps + self.steps)
            try:
                rows = {key: np.empty((until - row, width), np.uint8) for key, width in self.layout.widths.items()}
                ((_, befores, checksums, _),) = self._read(stream, row, rows)
            except (OSError, ReplayError):
                damaged += range(row, until)
                end = None
            else:
                found = checksums if self.identity is None else self._checksums(stream, row, rows, befores)
                # A segment must also begin where the one before it ends.
                first_fits = end in (None, befores[0])
                damaged += [row + i for i in range(until - row) if found[i] != checksums[i] or not (i or first_fits)]
                end = checksums[-1]
            row = until
        return damaged

    def damaged_header(self, path: Path) -> str:
        """What is wrong with a segment's file apart from its rows; empty if nothing."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != self.layout.size:
                    return f"has {os.fstat(file.fileno()).st_size:,} bytes instead of {self.layout.size:,}"
                return "" if file.read(len(self.layout.header)) == self.layout.header else "has another header"
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"

    def mend_header(self, path: Path) -> None:
        """Write the header of a segment anew, and give the file its size."""
        os.close(self._create(path))

    def stored_checksum(self, stream: int, row: int) -> int:
        """Checksum that stands beside a row.

        Raises:
            ReplayError: if the segment is too short.
            OSError: if it is missing.
        """
        segment, line = divmod(row, self.steps)
        return self._stored(self._reader(stream, segment), line + 1, 1, stream, segment)[0]

    def check_stored(self, stream: int, row: int, checksum: int) -> None:
        """Make sure that a row is stored with this checksum; the row itself is not read.

        Raises:
            ReplayError: if it is not.
        """
        if self.identity is not None and self.stored_checksum(stream, row) != checksum:
            raise self.damaged(stream, row)

    def damaged(self, stream: int, row: int) -> ReplayError:
        """What to raise for a row that does not have its checksum."""
        segment, line = divmod(row, self.steps)
        return ReplayError(
            f"{self.path(stream, segment)} is damaged: its row {line} does not have its checksum; "
            f"{remedy(self.directory)}."
        )

    def _read(
        self, stream: int, row: int, out: Mapping[str, Bytes]
    ) -> Iterator[tuple[int, list[int], list[int], dict[str, Bytes]]]:
        """Fill `out` segment by segment: first row, stored checksums of the rows before, of the rows, and the rows."""
        count, done = len(next(iter(out.values()))), 0
        while done < count:
            segment, line = divmod(row + done, self.steps)
            until = min(count, done + self.steps - line)
            descriptor = self._reader(stream, segment)
            for key, rows in out.items():
                target = rows[done:until]
                position = self.layout.offsets[key] + line * self.layout.widths[key]
                if target.size and os.preadv(descriptor, [target.data], position) != target.nbytes:
                    raise self._short(stream, segment)
            stored = [0] * (until - done + 1)
            if self.identity is not None:
                stored = self._stored(descriptor, line, until - done + 1, stream, segment)
            yield row + done, stored[:-1], stored[1:], {key: rows[done:until] for key, rows in out.items()}
            done = until

    def flush(self) -> None:
        """Force everything written onto the disk."""
        self._syncer.check()
        for descriptor in self._writers.values():
            os.fsync(descriptor)
        self._release(self._writers)

    def keep_only(self, stream: int, first: int, stop: int | None) -> None:
        """Delete the segments of a stream with none of its rows from `first` to `stop` - 1; None is without end."""
        end = sys.maxsize if stop is None else -(-stop // self.steps) if stop > first else 0
        live = range(first // self.steps, end)
        for path in self.directory.glob(f"stream-{stream:04d}-*.safetensors"):
            segment = int(path.stem.rsplit("-", 1)[1])
            if segment not in live:
                for descriptors in (self._readers, self._writers):
                    if (descriptor := descriptors.pop((stream, segment), None)) is not None:
                        self._syncer.forget(descriptor)
                        os.close(descriptor)
                path.unlink()

    def close(self) -> None:
        """Close all files."""
        self._syncer.close()
        self._release(self._writers)
        self._release(self._readers)

    def _checksums(self, stream: int, row: int, rows: Mapping[str, Bytes], befores: Sequence[int]) -> list[int]:
        """Checksum of each of some consecutive rows, [rows, bytes] by key, from those of the rows before each."""
        place = np.empty((len(befores), 3), "<i8")
        place[:, 0], place[:, 1], place[:, 2] = self.identity, stream, np.arange(row, row + len(befores))
        lines = np.concatenate([place.view(np.uint8), *(rows[key] for key in self._keys)], axis=1)
        return [zlib.crc32(line, before) for line, before in zip(lines, befores, strict=True)]

    def _entry(self, entry: int) -> int:
        """Position of a checksum in a segment."""
        return self.layout.checksums + _CHECKSUM.itemsize * entry

    def _stored(self, descriptor: int, entry: int, count: int, stream: int, segment: int) -> list[int]:
        """Some consecutive checksums of a segment."""
        found = os.pread(descriptor, count * _CHECKSUM.itemsize, self._entry(entry))
        if len(found) != count * _CHECKSUM.itemsize:
            raise self._short(stream, segment)
        return np.frombuffer(found, _CHECKSUM).tolist()

    def _short(self, stream: int, segment: int) -> ReplayError:
        return ReplayError(
            f"{self.path(stream, segment)} is damaged: it is shorter than it should be; {remedy(self.directory)}."
        )

    def _create(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            os.ftruncate(descriptor, self.layout.size)
            # Again and again, since a full disk may have kept an earlier attempt from writing it.
            _write_all(descriptor, self.layout.header, 0)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _reader(self, stream: int, segment: int) -> int:
        descriptor = self._readers.pop((stream, segment), None)
        if descriptor is None:
            while len(self._readers) >= _OPEN_FILES:
                os.close(self._readers.pop(next(iter(self._readers))))
            descriptor = os.open(self.path(stream, segment), os.O_RDONLY)
        self._readers[stream, segment] = descriptor
        return descriptor

    def _release(self, descriptors: dict[tuple[int, int], int]) -> None:
        while descriptors:
            _, descriptor = descriptors.popitem()
            self._syncer.forget(descriptor)
            os.close(descriptor)
