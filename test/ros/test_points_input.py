"""What lidar_node receives its points as: PointCloud2, or Livox's CustomMsg where its package is installed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from ros_harness import Inbox, Lidar, random_cloud, values_of
from sensor_msgs.msg import PointCloud2

from ov3d_perception.bags.pointcloud2 import structured
from ov3d_perception.ros import messages, qos
from ov3d_perception.ros.points_input import reason_of_silence

LIVOX = "livox_ros_driver2/msg/CustomMsg"


@pytest.mark.parametrize(
    ("types", "told", "not_told"),
    [
        ([], "Nobody publishes /points: start the driver", "sends nothing"),
        (["sensor_msgs/msg/PointCloud2"], "sends nothing", "start the driver"),
        (["sensor_msgs/msg/LaserScan"], "published as sensor_msgs/msg/LaserScan, not as sensor_msgs/msg/Po", "start"),
        (["sensor_msgs/msg/LaserScan", "sensor_msgs/msg/PointCloud2"], "sends nothing", "published as"),
    ],
)
def test_why_no_scan_comes(types: list[str], told: str, not_told: str) -> None:
    reason = reason_of_silence("/points", types)
    assert told in reason and not_told not in reason


def test_livox_without_its_message_package_names_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "message_class", lambda _: None)
    reason = reason_of_silence("/livox/lidar", [LIVOX])
    assert f"/livox/lidar is published as {LIVOX}" in reason
    assert "source the workspace that holds livox_ros_driver2" in reason and "xfer_format: 0" in reason


def test_livox_with_its_message_package_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "message_class", lambda _: object)
    assert "sends nothing" in reason_of_silence("/livox/lidar", [LIVOX])


@pytest.mark.live
def test_a_livox_driver_is_followed_to_its_type(
    start_node: Callable[..., Any], lidar_named: Callable[[str], Lidar], diagnostics: Inbox, tiny_model: Path
) -> None:
    """Labels of a CustomMsg are those of the PointCloud2 with the same points, and the node returns to PointCloud2.

    Needs Livox's message package, which no wheel brings.
    """
    pytest.importorskip("livox_ros_driver2.msg", reason="livox_ros_driver2 is not installed")
    from livox_ros_driver2.msg import CustomMsg, CustomPoint  # type: ignore[import-not-found]

    lidar = lidar_named("lidar_livox")
    parameters = {"checkpoint": str(tiny_model / "net.safetensors"), "text": str(tiny_model / "bank.npz")}
    start_node(
        "ov3d_perception.ros.lidar_node",
        lidar.name,
        parameters | {"device": "cpu", "stale_after": "0.2", "diagnostics_period": "0.1"},
        {"~/input/points": "/livox_test/lidar"},
    )
    probe = lidar.probe
    cloud = random_cloud(frame_id="livox", intensity=np.full(500, 128.0, np.float32))
    columns = structured(cloud)
    message = CustomMsg(header=cloud.header, point_num=len(columns))
    message.timebase = messages.stamp_to_ns(cloud.header.stamp)
    message.points = [
        CustomPoint(
            x=float(p["x"]), y=float(p["y"]), z=float(p["z"]), reflectivity=int(p["intensity"]), offset_time=100_000 * i
        )
        for i, p in enumerate(columns)
    ]
    with probe.listening(PointCloud2, f"/{lidar.name}/output/points", qos.OUTPUT) as labelled:
        driver = probe.node.create_publisher(CustomMsg, "/livox_test/lidar", qos.SENSOR)
        first = probe.until(
            lambda: driver.publish(message), labelled, lambda got: got.header.stamp == cloud.header.stamp
        )
        probe.node.destroy_publisher(driver)
        assert first.width == len(columns) and first.header.frame_id == "livox"
        np.testing.assert_array_equal(structured(first)["x"], columns["x"])
        status = lidar.status(diagnostics, lambda s: "float64 nanoseconds" in values_of(s).get("point times", ""))
        assert "on the stamp's clock" in values_of(status)["point times"]
        lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.STALE)
        again = random_cloud(frame_id="livox", stamp=time.time_ns(), intensity=np.full(500, 128.0, np.float32))
        driver = probe.node.create_publisher(PointCloud2, "/livox_test/lidar", qos.SENSOR)
        second = probe.until(
            lambda: driver.publish(again), labelled, lambda got: got.header.stamp == again.header.stamp
        )
        np.testing.assert_array_equal(structured(first)["label"], structured(second)["label"])
        probe.node.destroy_publisher(driver)
