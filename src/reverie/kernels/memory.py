"""Reuse of freed memory."""

import ctypes
import platform

_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2  # from malloc.h


def tune_malloc() -> None:
    """Make the C library keep freed memory for the rest of the process.

    By default glibc returns each large block to the system when it is freed. An update allocates and frees gigabytes in
    large blocks, and the system fills the pages of each new one with zeros. Other C libraries are not changed.
    """
    if platform.system() != "Linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 2**26)
