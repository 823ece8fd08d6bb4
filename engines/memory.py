"""Keep freed memory in the process: rendering allocates and frees the same few megabytes for every frame."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_KEPT_BYTES = 256 << 20
_LARGEST_BYTES = 32 << 20  # glibc's own upper limit


def keep_freed_memory() -> None:
    """Tell glibc not to return arrays to the system at once; does nothing where the C library is another.

    Without this a 720p in-between costs 3,900 page faults, a quarter of its time (docs/performance.md).
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
