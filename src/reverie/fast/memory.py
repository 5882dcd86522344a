"""Memory that is used again instead of given back."""

import ctypes
import platform

_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2  # from malloc.h


def keep_freed_memory() -> None:
    """Tell the C library to keep what is freed, for the rest of the process.

    By default, glibc gives every large block back to the system when it is freed. An update makes and frees gigabytes
    of them, and each would come back as pages that the system fills with zeros first. Other C libraries are left alone.
    """
    if platform.system() != "Linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 2**26)
