"""The doctor listens to another process's topics: who cannot hear whom, and what was sent, are found."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import Probe
from sensor_msgs.msg import PointCloud2

from ov3d_perception.bags import messages as bag_messages
from ov3d_perception.bags.typestore import typestore

pytestmark = pytest.mark.live


def test_topics_that_nobody_hears_and_what_was_sent_are_found(probe: Probe) -> None:
    offered = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    asked = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
    publisher = probe.node.create_publisher(PointCloud2, "/doctor/points", offered)
    deaf = probe.node.create_subscription(PointCloud2, "/doctor/points", lambda message: None, asked)
    rng = np.random.default_rng(0)
    done = threading.Event()

    def send() -> None:
        while not done.wait(0.1):
            stamp = probe.node.get_clock().now().nanoseconds
            columns = {name: rng.uniform(-20, 20, 2000).astype(np.float32) for name in "xyz"}
            cloud = bag_messages.point_cloud(columns, stamp, "lidar")
            publisher.publish(bytes(typestore().serialize_cdr(cloud, cloud.__msgtype__)))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        # Fast DDS may take three seconds until the recorder hears a publisher.
        command = [sys.executable, "-m", "ov3d_perception.cli", "doctor", "--live", "--seconds", "8", "--json"]
        ended = subprocess.run(
            [*command, "--points", "/doctor/points"], capture_output=True, text=True, timeout=90, check=False
        )
    finally:
        done.set()
        sender.join()
        probe.node.destroy_subscription(deaf)
        probe.node.destroy_publisher(publisher)
    report = json.loads(ended.stdout)
    assert ended.returncode == report["exit_code"] == 3, ended.stderr
    found = {(finding["check"], finding["subject"]): finding for finding in report["findings"]}
    deafness = found["qos", "/doctor/points"]
    assert deafness["severity"] == "error" and "never hears" in deafness["what"]
    assert ("cameras", "images") in found
    assert found["rate", "/doctor/points"]["figures"]["rate_hz"] == pytest.approx(10, abs=3)
