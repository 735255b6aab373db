"""The process environment that large clouds need, set before the middleware starts.

Fast DDS' default shared-memory segment (0.5 MB) silently loses best-effort clouds of 2 MB; the profile in
``config/fastdds_large_messages.xml`` has room for them. The segment is the sender's: give it to the driver, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ov3d_perception.files import replacing
from ov3d_perception.paths import cache_dir, share_dir

SHARED_MEMORY = Path("/dev/shm")
SEGMENT = 64 << 20  # bytes; as the profile has it, and half of it for the largest message
ENOUGH = 8 * SEGMENT  # for our nodes, a driver and some listeners, each with a segment of its own
PROFILE = "fastdds_large_messages.xml"
VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
#: Its name before Fast DDS 3; later releases still read it, but warn.
FORMER_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
_BEFORE_FAST_DDS_3 = ("humble", "iron", "jazzy")
_WHEELS = "jazzy"  # the distribution of the wheels from PyPI, which do not set ROS_DISTRO


def large_message_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables to add to ``environment``; none if the user has chosen a profile. Other middlewares ignore them."""
    if VARIABLE in environment or FORMER_VARIABLE in environment:
        return {}
    profile = str(_profile(shared_memory()))
    if environment.get("ROS_DISTRO", _WHEELS) in _BEFORE_FAST_DDS_3:
        return {VARIABLE: profile, FORMER_VARIABLE: profile}
    return {VARIABLE: profile}


def shared_memory() -> int:
    """Bytes that all processes here have together to pass messages in; 0 where there is no /dev/shm."""
    try:
        size = os.statvfs(SHARED_MEMORY)
    except OSError:
        return 0
    return size.f_blocks * size.f_frsize


def shared_memory_fault() -> str:
    """What a person should know of this machine's shared memory, with the remedy; "" where it is enough."""
    total = shared_memory()
    if total >= ENOUGH:
        return ""
    return (
        f"{SHARED_MEMORY} has {total / 1e6:.0f} MB, so large clouds may get lost (Docker's default is 64 MB). "
        "Start the container with --shm-size=1g or --ipc=host, those of other nodes and the LiDAR's driver, too"
    )


def _profile(total: int) -> Path:
    """The shipped profile; where all processes share ``total`` < :data:`ENOUGH` bytes, one whose segments fit in them.

    Fast DDS does without shared memory where its segment does not fit, and best-effort clouds get lost on UDP.
    """
    shipped = share_dir() / "config" / PROFILE
    if total >= ENOUGH:
        return shipped
    segment = max(total // 8, 1 << 20)
    text = shipped.read_text().replace(str(SEGMENT // 2), str(segment // 2)).replace(str(SEGMENT), str(segment))
    path = cache_dir() / f"fastdds_{segment}.xml"
    if not path.is_file() or path.read_text() != text:
        with replacing(path) as file:
            file.write(text.encode())
    return path


def use_large_messages() -> None:
    """Apply it to this process; before the first ``rclpy.init``."""
    os.environ.update(large_message_environment())
