"""The process environment that large clouds need, set before the middleware starts.

Fast DDS' default shared-memory segment (0.5 MB) silently loses best-effort clouds of 2 MB; the profile in
``config/fastdds_large_messages.xml`` has room for them. The segment is the sender's: give it to the driver, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ov3d_perception.paths import share_dir

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
    profile = str(share_dir() / "config" / PROFILE)
    if environment.get("ROS_DISTRO", _WHEELS) in _BEFORE_FAST_DDS_3:
        return {VARIABLE: profile, FORMER_VARIABLE: profile}
    return {VARIABLE: profile}


def use_large_messages() -> None:
    """Apply it to this process; before the first ``rclpy.init``."""
    os.environ.update(large_message_environment())
