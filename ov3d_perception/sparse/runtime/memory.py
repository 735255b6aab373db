"""A ResourceError instead of the kernel's out-of-memory killer.

Linux grants memory that it does not have and kills the process that uses it. So the free memory is checked before a
large allocation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ov3d_perception.errors import ResourceError

LARGE = 1 << 26
"""Bytes from which on the free memory is checked."""
_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
_REMEDY = "Take a larger voxel, crop the cloud, or put fewer clouds in a batch"


def available() -> int | None:
    """Bytes of main memory that this process can still get; None where the system does not say."""
    if not _MEMINFO.is_file():
        return None
    lines = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = _GROUP / "memory.max", _GROUP / "memory.current"
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        free = min(free, int(most) - int(used.read_text()))
    return free


def require(size: int, voxels: int, device: torch.device) -> None:
    """Raise ResourceError where ``size`` bytes for so many voxels are more than there are."""
    if size < LARGE or device.type != "cpu":
        return
    free = available()
    if free is not None and size > free:
        raise ResourceError(
            f"A layer on {voxels} voxels needs {size / 1e9:.1f} GB, and {max(free, 0) / 1e9:.1f} GB of memory are free",
            _REMEDY,
        )


@contextmanager
def as_resource_error(voxels: int) -> Iterator[None]:
    """Turn a failed allocation into a ResourceError that names the number of voxels."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if known or "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise ResourceError(f"The memory does not suffice for {voxels} voxels ({error})", _REMEDY) from error
        raise
