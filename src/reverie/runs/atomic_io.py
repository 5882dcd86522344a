"""Atomic file writes, and reads that check sizes and checksums.

A file is written under another name, forced onto the disk and renamed: a reader finds the old content or the new one,
whenever the machine stops. Checksummed JSON holds the SHA-256 of its own text.
"""

import errno
import hashlib
import json
import os
import shutil
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
    """The end of a sentence that begins with the file's name, for example `is missing`."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield another name, with the same suffix, to write to; rename it when the block ends without an error.

    The content and the name are on the disk then.

    Raises:
        ReverieError: if the file cannot be written; the folder is created if missing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _renamed(path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}"), path) as temporary:
            yield temporary
            sync(temporary)
        sync(path.parent)
    except OSError as error:
        raise ReverieError(
            f"Cannot write '{path}' ({error.strerror or error}). Make room there, or choose another place."
        ) from error


def atomic_write(path: Path, data: bytes) -> None:
    """Replace a file; on return the new content and the names in its folder are on the disk.

    Raises:
        OSError: if it cannot be written. The old content is kept.
    """
    # The same name each time: what a killed process left is replaced, too.
    with _renamed(path.with_name(f".{path.name}.tmp"), path) as temporary:
        write_synced(temporary, data)
    sync(path.parent)


@contextmanager
def _renamed(temporary: Path, path: Path) -> Iterator[Path]:
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and force it onto the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_dir(path: Path) -> None:
    """Create a folder and its parents, if they are missing; on return their names are on the disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def sync(path: Path) -> None:
    """Force the content of a file, or the names inside a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # Some network file systems sync files only.
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_file(path: Path, size: int | None = None, limit: int | None = None) -> None:
    """Check that a path is a regular file of exactly `size` or at most `limit` bytes, without opening it.

    Raises:
        Unreadable: if it is missing, not a file, or of another size.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise Unreadable("is missing") from error
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror or error})") from error
    if not stat.S_ISREG(status.st_mode):  # Opening a pipe would block.
        raise Unreadable("is not a file")
    if size is not None and status.st_size != size:
        raise Unreadable(f"has {status.st_size} bytes instead of {size}")
    if limit is not None and status.st_size > limit:
        raise Unreadable(f"is too large with {status.st_size} bytes")


def read_file(path: Path, size: int | None = None, limit: int | None = None) -> bytes:
    """Read a file after `check_file`, so that no memory is taken for one of another size."""
    check_file(path, size, limit)
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror or error})") from error


def to_json(value: Json, indent: int | None = 2) -> bytes:
    """Return JSON with sorted keys: equal values give equal bytes."""
    return (json.dumps(value, indent=indent, sort_keys=True) + "\n").encode()


def parse_json(data: bytes) -> Json:
    """Parse JSON; raise Unreadable if it is something else."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable("is not valid JSON") from error


def dumps_checksummed(content: Mapping[str, Json], indent: int | None = 2) -> bytes:
    """Return JSON that holds its own checksum."""
    return to_json({**content, _CHECKSUM: _checksum(content, indent)}, indent)


def loads_checksummed(data: bytes, indent: int | None = 2) -> dict[str, Json]:
    """Invert `dumps_checksummed`; raise Unreadable if a single byte differs, or there is no checksum."""
    content = parse_json(data)
    if not isinstance(content, dict):
        raise Unreadable("is not valid JSON for this file")
    given = content.pop(_CHECKSUM, None)
    # Comparing the text as well finds changes that parsing ignores, such as white space or a repeated key.
    if given != _checksum(content, indent) or dumps_checksummed(content, indent) != data:
        raise Unreadable("does not have its checksum")
    return content


def _checksum(content: Mapping[str, Json], indent: int | None) -> str:
    return hashlib.sha256(to_json(dict(content), indent)).hexdigest()
