"""Memory that a step has freed is there for the next one.

The C library gives large freed blocks back to the system, which hands out the next ones page by page, zeroed. A
training step frees and asks for the same hundred megabytes each time.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_LARGEST = 32 << 20
"""Bytes of a block; glibc allows no more."""


def keep_freed_memory() -> None:
    """From now on this process keeps up to a gigabyte that it has freed. C libraries but glibc are left alone."""
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_TRIM_THRESHOLD, 1 << 30)
