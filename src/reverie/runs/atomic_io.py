"""How files get onto the disk and back: whole or not at all, and known to be what was written.

A file is written under another name, forced onto the disk and renamed, so that a reader finds the old one or the new
one and never half of either, whenever the machine stops. JSON that must not change unseen is *sealed*: it holds the
SHA-256 of its own text.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from reverie.errors import ReverieError

Json: TypeAlias = Any
"""None, bool, int, float, str, and lists and dictionaries (with str keys) of these."""

_CHECKSUM = "sha256"


class Unreadable(Exception):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Another name, with the same ending, to write a file under; it is renamed when the block ends without an error.

    Raises:
        ReverieError: if the file cannot be written; the folder is created if missing.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise ReverieError(
            f"Cannot write '{path}' ({error.strerror or error}); make room there or choose another place."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def atomic_write(path: Path, data: bytes) -> None:
    """Replace a file; once this returns, the new content is on the disk, and so are the names in its folder.

    Raises:
        OSError: the former file is then still there.
    """
    temporary = path.with_name(f".{path.name}.tmp")  # The same each time: what a killed process left is replaced, too.
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_dir(path.parent)


def sync_dir(path: Path) -> None:
    """Make the names inside a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # Some network file systems sync files only.
            raise
    finally:
        os.close(descriptor)


def read_file(path: Path, size: int | None = None, limit: int | None = None) -> bytes:
    """Read a file, unless it is no file or of another size than it should be: then no memory is taken for it.

    Args:
        path: the file.
        size: bytes that it must have.
        limit: bytes that it may have at most.

    Raises:
        Unreadable: if it is missing, no file, too large, of another size, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # Opening a pipe would wait for ever.
            raise Unreadable("is not a file")
        if size is not None and status.st_size != size:
            raise Unreadable(f"has {status.st_size} bytes instead of {size}")
        if limit is not None and status.st_size > limit:
            raise Unreadable(f"is too large with {status.st_size} bytes")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Unreadable("is missing") from error
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror or error})") from error


def to_json(value: Json, indent: int | None = 2) -> bytes:
    """As text with sorted keys: equal values give equal bytes. Without indentation it is ten times as fast."""
    return (json.dumps(value, indent=indent, sort_keys=True) + "\n").encode()


def parse_json(data: bytes) -> Json:
    """Inverse of `to_json`.

    Raises:
        Unreadable: if it is something else.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable("is not valid JSON") from error


def dumps_checksummed(content: Mapping[str, Json], indent: int | None = 2) -> bytes:
    """As JSON that holds a checksum of itself."""
    return to_json({**content, _CHECKSUM: _checksum(content, indent)}, indent)


def loads_checksummed(data: bytes, indent: int | None = 2) -> dict[str, Json]:
    """Inverse of `seal`.

    Raises:
        Unreadable: if a single byte is another, or it was never sealed.
    """
    content = parse_json(data)
    if not isinstance(content, dict):
        raise Unreadable("is not valid JSON for this file")
    given = content.pop(_CHECKSUM, None)
    # Comparing the text as well finds changes that parsing forgives, such as white space or a key given twice.
    if given != _checksum(content, indent) or dumps_checksummed(content, indent) != data:
        raise Unreadable("does not have its checksum")
    return content


def _checksum(content: Mapping[str, Json], indent: int | None) -> str:
    return hashlib.sha256(to_json(dict(content), indent)).hexdigest()
