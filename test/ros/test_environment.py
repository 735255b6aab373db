"""The middleware of this machine, started with the environment that our processes give it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ov3d_perception.ros import environment
from ov3d_perception.ros.environment import FORMER_VARIABLE, VARIABLE, large_message_environment, shared_memory_fault

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


def largest_segment(command: list[str], **variables: str) -> int:
    """Bytes of the largest segment that Fast DDS maps in a process of its own."""
    own = {name: value for name, value in os.environ.items() if name not in (VARIABLE, FORMER_VARIABLE)} | variables
    result = subprocess.run(command, capture_output=True, text=True, env=own, timeout=120)
    assert result.returncode == 0, result.stderr
    middleware, maps = result.stdout.split("\n", 1)
    if "fastrtps" not in middleware:
        pytest.skip(f"{middleware} does not read the profiles of Fast DDS")
    regions = re.findall(r"^(\w+)-(\w+) .*/dev/shm/fast\w+$", maps, re.M)
    return max((int(end, 16) - int(begin, 16) for begin, end in regions), default=0)


def test_a_process_has_shared_memory_for_large_messages(ros_domain: int) -> None:
    """The segment of the profile (64 MiB) is mapped: this release of Fast DDS has read the file that we name."""
    assert largest_segment([sys.executable, "-c", MEMORY_MAPS]) >= 64 << 20


def test_a_small_shared_memory_gets_a_small_segment(ros_domain: int, tmp_path: Path) -> None:
    """Docker's 64 MB, in a mount namespace of its own: an eighth is mapped. Of 64 MiB nothing was."""
    inner = f"mount -t tmpfs -o size=64m tmpfs /dev/shm && exec {shlex.join([sys.executable, '-c', MEMORY_MAPS])}"
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True).returncode:
        pytest.skip("making a mount namespace is not allowed here")
    segment = largest_segment(["unshare", "-m", "sh", "-c", inner], OV3D_CACHE=str(tmp_path))
    assert 8 << 20 <= segment < 16 << 20


@pytest.mark.parametrize(("total", "segment"), [(64 << 20, 8 << 20), (256 << 20, 32 << 20), (0, 1 << 20)])
def test_the_profile_fits_the_shared_memory(
    total: int, segment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "shared_memory", lambda: total)
    monkeypatch.setenv("OV3D_CACHE", str(tmp_path))
    profile = Path(large_message_environment({})[VARIABLE])
    sizes = {e.tag.split("}")[-1]: e.text for e in ElementTree.parse(profile).iter() if e.text}
    assert (sizes["segment_size"], sizes["maxMessageSize"]) == (str(segment), str(segment // 2))
    assert "--shm-size=1g" in shared_memory_fault() and f"{total / 1e6:.0f} MB" in shared_memory_fault()


def test_enough_shared_memory_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "shared_memory", lambda: 1 << 30)
    assert shared_memory_fault() == ""
    assert large_message_environment({})[VARIABLE].endswith("config/fastdds_large_messages.xml")
