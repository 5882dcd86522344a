"""Locks of folders: one process at a time, released by the system when it ends."""

import errno
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

_PATIENCE = 0.1  # Seconds; `is_locked` in another process holds a lock for an instant.


def acquire_lock(path: Path) -> BaseFileLock | None:
    """Lock a file, which is created; None if another process, or this one, holds its lock.

    On a file system without locks the existence of another file, `.soft`, is the lock.
    """
    try:
        try:
            return FileLock(path, thread_local=False).acquire(timeout=_PATIENCE, poll_interval=0.02).lock
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                raise
            return SoftFileLock(f"{path}.soft", thread_local=False).acquire(timeout=0).lock
    except Timeout:
        return None


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of this file; False if it does not exist or may not be opened."""
    if not path.exists():
        return False
    try:
        lock = acquire_lock(path)
    except OSError:
        return False
    if lock is not None:
        lock.release()
    return lock is None
