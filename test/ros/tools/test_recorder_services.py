"""The recorder's services: cut, asked and stopped while messages come."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import typer
from ros_harness import Probe
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from ov3d_perception.bags.pointcloud2 import structured
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.cli.common import duration
from ov3d_perception.ros import messages, qos
from ov3d_perception.ros.tools.bag_recorder import RecordReport, record_bag

pytestmark = pytest.mark.live

S = 1_000_000_000


def test_a_recording_is_cut_asked_and_stopped_by_services(probe: Probe, tmp_path: Path) -> None:
    publisher = probe.node.create_publisher(PointCloud2, "/cut/points", qos.OUTPUT)
    found: list[RecordReport] = []
    stop = threading.Event()
    thread = threading.Thread(
        target=lambda: found.append(record_bag(tmp_path / "bag", ["/cut/points"], stop=stop)), name="recorder"
    )
    thread.start()

    def publish(numbers: range) -> None:
        for number in numbers:
            columns = {name: np.full(10, number, np.float32) for name in "xyz"}
            publisher.publish(messages.point_cloud(columns, (number + 1) * S, "lidar"))
        probe.wait_for(lambda: f"/cut/points: {numbers.stop}" in ask("status"), f"{numbers.stop} messages in the bags")

    def ask(service: str) -> str:
        answer = probe.call(Trigger, f"/bag_recorder/{service}", Trigger.Request())
        assert answer.success
        return str(answer.message)

    try:
        probe.wait_for(lambda: publisher.get_subscription_count() == 1, "the recorder")
        publish(range(0, 5))
        assert str(tmp_path / "bag_2") in ask("split")
        publish(range(5, 8))
        assert "0 dropped" in ask("status") and "GB are free" in ask("status")
        assert "is being closed" in ask("stop")
        thread.join(30)
        assert not thread.is_alive()
    finally:
        stop.set()
        thread.join()
        probe.node.destroy_publisher(publisher)
    assert found[0].bags == (tmp_path / "bag", tmp_path / "bag_2") and found[0].written["/cut/points"] == 8
    for path, numbers in zip(found[0].bags, ([0, 1, 2, 3, 4], [5, 6, 7]), strict=True):
        with open_bag(path) as bag:
            assert [int(structured(message.decode())["x"][0]) for message in bag.messages()] == numbers


def test_durations_are_read() -> None:
    assert [duration(text) for text in ("", "90", "90s", "1.5min", "2 h")] == [0, 90, 90, 90, 7200]
    for text in ("half an hour", "-3s", "3 days"):
        with pytest.raises(typer.BadParameter):
            duration(text)
