"""Atomic file writes, and reads that check sizes and checksums.

A file is written under another name, forced onto the disk and renamed: a reader finds the old content or the new one,
whenever the machine stops. Checksummed JSON holds the SHA-256 of its own text.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from reverie.errors import ReverieError

Json: TypeAlias = Any
"""None, bool, int, float, str, and lists and dictionaries (with str keys) of these."""

_CHECKSUM = "sha256"


class Unreadable(Exception):
    """Reason why a file cannot be used: the end of a sentence that begins with its name, for example `is missing`."""


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Begin the sentence of an `Unreadable` with the file's name."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(f"{name} {error}") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield another name, with the same suffix, to write to; rename it when the block ends without an error.

    Content and name are on the disk then. Of two writers at one moment the later one wins.

    Raises:
        ReverieError: if the file cannot be written; the folder is created if missing, and the old content is kept.
    """
    temporary = path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{path.stem}{path.suffix.lower()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_temporary_of_killed(path.parent)
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise ReverieError(
            f"Cannot write '{path}' ({error.strerror or error}). Make room there, or choose another place."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def atomic_write(path: Path, data: bytes) -> None:
    """Replace a file as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _remove_temporary_of_killed(folder: Path) -> None:
    for path in folder.glob(".tmp-*"):
        if process := re.match(r"\.tmp-([0-9]{1,9})-", path.name):
            with suppress(OSError):  # It belongs to another user, or to nothing of ours.
                try:
                    os.kill(int(process[1]), 0)
                except ProcessLookupError:
                    remove(path)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and force it onto the disk."""
    path.write_bytes(data)
    sync(path)


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


def read_file(path: Path, size: int | None = None, limit: int | None = None, head: int = -1) -> bytes:
    """Read a regular file of exactly `size` or at most `limit` bytes; of its content only the first `head` bytes.

    Raises:
        Unreadable: if it is missing, no file, or of another size; no memory is taken for it then.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # Opening a pipe would block.
            raise Unreadable("is not a file")
        if size is not None and status.st_size != size:
            raise Unreadable(f"has {status.st_size} bytes instead of {size}")
        if limit is not None and status.st_size > limit:
            raise Unreadable(f"is too large with {status.st_size} bytes")
        with path.open("rb") as file:
            return file.read(head)
    except FileNotFoundError as error:
        raise Unreadable("is missing") from error
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror or error})") from error


def to_json(value: Json) -> bytes:
    """Return JSON with sorted keys, arrays as lists and NumPy scalars as numbers: equal values give equal bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, default=_plain) + "\n").encode()


def _plain(value: object) -> Json:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"A {type(value).__name__} is none of JSON's types.")


def parse_json(data: bytes) -> dict[str, Json]:
    """Parse a JSON object; raise Unreadable if it is something else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable("is not valid JSON") from error
    if not isinstance(value, dict):
        raise Unreadable("is not a JSON object")
    return value


def dumps_checksummed(content: Mapping[str, Json]) -> bytes:
    """Return JSON that holds its own checksum."""
    return to_json({**content, _CHECKSUM: hashlib.sha256(to_json(dict(content))).hexdigest()})


def loads_checksummed(data: bytes) -> dict[str, Json]:
    """Invert `dumps_checksummed`; raise Unreadable if a single byte differs, or there is no checksum."""
    content = {name: value for name, value in parse_json(data).items() if name != _CHECKSUM}
    # The whole text is compared: parsing ignores changes of white space, or a repeated key.
    if dumps_checksummed(content) != data:
        raise Unreadable("does not have its checksum")
    return content
