"""`ov3d view` in a process of its own beside a real map_node: questions typed, the recording written."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from map_harness import Mapper, block
from rclpy.context import Context
from ros_harness import PATIENCE_S, Inbox, Probe
from sensor_msgs.msg import PointCloud2

from ov3d_perception.bags.pointcloud2 import pack_rgb
from ov3d_perception.ros import messages, qos
from ov3d_perception.ros.tools.up import restore_signals
from ov3d_perception.ros.tools.view import Viewer

pytest.importorskip("rerun", reason="rerun-sdk is not installed")
pytestmark = pytest.mark.live

CONTENTS = ("/map/scan", "/map/voxels", "/map/answers", "/mask", "/log", "car, giraffe?")
CAR, ROAD = block((2, 0, 0), (10, 5, 7)), block((-4, -4, -0.2), (50, 40, 1))


class Shown:
    """In the place of the stream: the stamps of the scans that it was given."""

    def __init__(self) -> None:
        self.scans: list[int] = []

    def scan(self, stamp: int, *_: object) -> None:
        self.scans.append(stamp)


def test_a_scan_waits_for_its_transform(probe: Probe, diagnostics: Inbox) -> None:
    mapper, shown, said, stamp = Mapper(probe, diagnostics, "nobody"), Shown(), [], time.time_ns()
    scans = mapper.probe.node.create_publisher(PointCloud2, "/lidar_node/output/points", qos.OUTPUT)
    context = Context()
    context.init()
    viewer = Viewer(context, shown, said.append)  # type: ignore[arg-type]
    viewer._map_frame = mapper.map_frame

    def send() -> None:
        columns = {axis: CAR[:, i] for i, axis in enumerate("xyz")} | {"rgb": np.zeros(len(CAR), np.float32)}
        scans.publish(messages.point_cloud(columns, stamp, mapper.sensor))
        viewer.spin(0.1)

    def place() -> None:
        mapper.publish_pose(stamp)
        viewer.spin(0.1)

    try:
        mapper.probe.wait_for(lambda: send() or bool(said), "two scans without a place")
        assert not shown.scans and "without a place" in said[0]
        mapper.probe.wait_for(lambda: place() or bool(shown.scans), "the scan in its place")
        assert shown.scans == [stamp]
    finally:
        viewer.close()
        context.try_shutdown()
        mapper.close()
        mapper.probe.node.destroy_publisher(scans)


def test_scan_map_mask_and_typed_question_are_recorded(mapper_named: Callable[..., Mapper], tmp_path: Path) -> None:
    mapper = mapper_named("map_node", costs="['car: 100']", mask_period="0.2")
    mapper.publish_basis()
    mapper.drive({"car": CAR, "road": ROAD})
    path = tmp_path / "view.rrd"
    command = [sys.executable, "-m", "ov3d_perception.cli", "view", "--save", str(path)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=restore_signals
    )
    assert process.stdin is not None and process.stdout is not None
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout), daemon=True)
    reader.start()
    scans = mapper.probe.node.create_publisher(PointCloud2, "/lidar_node/output/points", qos.OUTPUT)

    def send() -> None:
        stamp = time.time_ns()
        mapper.publish_pose(stamp)
        rgb = pack_rgb(np.full((len(CAR), 3), 99, np.uint8))
        columns = {axis: CAR[:, i] for i, axis in enumerate("xyz")} | {"rgb": rgb}
        scans.publish(messages.point_cloud(columns, stamp, mapper.sensor))
        process.stdin.write("car, giraffe\n")
        process.stdin.flush()

    def answered() -> bool:
        send()
        return any("car: 1, best" in line and "giraffe: nothing" in line for line in said)

    def missing() -> list[str]:
        """What the recording does not hold yet. It ends in the middle of something."""
        send()
        command = [sys.executable, "-m", "rerun", "rrd", "print", "-vvv", str(path)]
        printed = subprocess.run(command, capture_output=True, text=True).stdout
        return [content for content in CONTENTS if content not in printed]

    try:
        mapper.probe.wait_for(answered, "an answer", every_s=0.3)
        mapper.probe.wait_for(lambda: not missing(), "the recording of everything")
        process.stdin.write("zebra\n")
        process.stdin.flush()
        mapper.probe.wait_for(lambda: any("zebra" in line for line in said), "the answer to an unknown word")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        reader.join(5.0)
        mapper.probe.node.destroy_publisher(scans)
