"""Files that this process keeps locked: the system unlocks them when it ends, however it ends."""

import fcntl
import os
from pathlib import Path

_held: set[int] = set()  # file descriptors


def hold(descriptor: int) -> None:
    """Keep an open, locked file until it is released; a forked child closes its copy of it.

    A lock belongs to every process that shares its descriptor: without this, a worker that outlives the killed learner
    would keep the file locked.
    """
    _held.add(descriptor)


def release(descriptor: int) -> None:
    """Close the file, and so give its lock back."""
    _held.discard(descriptor)
    os.close(descriptor)


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock of this file; False if there is no such file, or no way to know.

    To find out, the lock is shared for an instant; a run that starts in just this instant is refused, and not harmed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
