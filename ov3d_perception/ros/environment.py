"""The process environment that large clouds need, set before the middleware starts.

Fast DDS' default shared-memory segment (0.5 MB) silently loses best-effort clouds of 2 MB; the profile in
``config/fastdds_large_messages.xml`` has room for them. The segment is the sender's: give it to the driver, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ov3d_perception.paths import share_dir

PROFILE = "fastdds_large_messages.xml"
#: The variable's name since Fast DDS 2.13, and before.
VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def large_message_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables to add to ``environment``; none if the user has chosen a profile. Other middlewares ignore them."""
    if any(name in environment for name in VARIABLES):
        return {}
    profile = str(share_dir() / "config" / PROFILE)
    return dict.fromkeys(VARIABLES, profile)


def use_large_messages() -> None:
    """Apply it to this process; before the first ``rclpy.init``."""
    os.environ.update(large_message_environment())
