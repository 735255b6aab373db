"""The middleware of this machine, started with the environment that our processes give it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from ov3d_perception.ros.environment import FORMER_VARIABLE, VARIABLE

MEMORY_MAPS = """
from ov3d_perception.ros.environment import use_large_messages
use_large_messages()
import rclpy
rclpy.init()
node = rclpy.create_node("shared_memory")
print(rclpy.get_rmw_implementation_identifier())
print(open("/proc/self/maps").read())
rclpy.shutdown()
"""


def test_a_process_has_shared_memory_for_large_messages(ros_domain: int) -> None:
    """The segment of the profile (64 MiB) is mapped: this release of Fast DDS has read the file that we name."""
    environment = {name: value for name, value in os.environ.items() if name not in (VARIABLE, FORMER_VARIABLE)}
    command = [sys.executable, "-c", MEMORY_MAPS]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    middleware, maps = result.stdout.split("\n", 1)
    if "fastrtps" not in middleware:
        pytest.skip(f"{middleware} does not read the profiles of Fast DDS")
    regions = re.findall(r"^(\w+)-(\w+) .*/dev/shm/fast\w+$", maps, re.M)
    assert max((int(end, 16) - int(begin, 16) for begin, end in regions), default=0) >= 64 << 20
