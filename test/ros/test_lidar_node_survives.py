"""lidar_node goes on, whatever one message's callback raises; the node is in the test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.parameter import Parameter
from ros_harness import Inbox, Lidar, Probe, values_of
from sensor_msgs.msg import Imu

from ov3d_perception.geometry.upright import Gravity
from ov3d_perception.ros import qos
from ov3d_perception.ros.lidar_node import LidarNode

pytestmark = pytest.mark.live

NAME = "lidar_survivor"


@pytest.fixture
def raised(probe: Probe) -> Iterator[list[BaseException]]:
    """What left the callbacks of a lidar_node that is spun meanwhile."""
    overrides = [Parameter("autostart", value=False), Parameter("diagnostics_period", value=0.1)]
    node = LidarNode(parameter_overrides=overrides, cli_args=["--ros-args", "-r", f"__node:={NAME}"])
    executor, found = MultiThreadedExecutor(num_threads=2), list[BaseException]()
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    yield found
    node.close()
    executor.shutdown(timeout_sec=5.0)
    thread.join(10.0)
    node.destroy_node()


def test_a_message_that_fails_in_a_way_nobody_foresaw_does_not_end_the_node(
    probe: Probe, diagnostics: Inbox, raised: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    lidar, real, fails = Lidar(probe, NAME), Gravity.add, [True]
    publisher = probe.node.create_publisher(Imu, f"/{NAME}/input/imu", qos.SENSOR)

    def add(*arguments: Any) -> None:
        if fails[0]:
            raise ZeroDivisionError("nobody foresaw it")
        real(*arguments)

    monkeypatch.setattr(Gravity, "add", add)
    try:
        failed = lidar.status(
            diagnostics, lambda s: int(values_of(s)["failures"]) > 1, lambda: publisher.publish(Imu())
        )
        assert "nobody foresaw it" in values_of(failed)["last error"] and "nobody foresaw it" in failed.message
        fails[0] = False
        lidar.status(diagnostics, lambda s: "unconfigured" in s.message, lambda: publisher.publish(Imu()))
        assert not raised
    finally:
        probe.node.destroy_publisher(publisher)
        lidar.close()
