"""The player as a process: what is played arrives, in order and at its own pace."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from bag_process import PLAY, START, S, end
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from real_data import data_dir
from ros_harness import Inbox, Probe
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from ov3d_perception.bags import messages as bag_messages
from ov3d_perception.bags.pointcloud2 import decode, structured
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.errors import BagError
from ov3d_perception.ros import messages, qos
from ov3d_perception.ros.tools.bag_player import PlayOptions, loop_period, play_bag

pytestmark = pytest.mark.live

ALL = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
ALL_LATCHED = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def scan_numbers(inbox: Inbox) -> list[int]:
    return [int(structured(message)["x"][0]) for message in inbox.messages]


def test_plays_all_of_it_in_order_at_its_own_pace(probe: Probe, drive: Path, start) -> None:
    with probe.listening(PointCloud2, "/bag/points", ALL) as points, probe.listening(Clock, "/clock") as clock:
        player = start(PLAY, drive, wait_for=["/bag/points"])
        points.wait(lambda message: structured(message)["x"][0] == 5)
        assert player.wait(60) == 0
    assert scan_numbers(points) == [1, 2, 3, 4, 5]
    assert [messages.stamp_to_ns(m.header.stamp) for m in points.messages] == [START + i * S // 10 for i in range(5)]
    ticks = [messages.stamp_to_ns(message.clock) for message in clock.messages]
    assert ticks == sorted(ticks) and len(ticks) > 5
    assert ticks[0] >= START and ticks[-1] <= START + 4 * S // 10 + 1


@pytest.mark.parametrize("stopped", [True, False])
def test_a_player_that_is_stopped_does_not_wait_for_subscribers(
    ros_domain: int, drive: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """Under a launcher they end at the same Ctrl-C and acknowledge nothing; at the bag's end they may be slow."""
    waited: list[Publisher] = []
    monkeypatch.setattr(Publisher, "wait_for_all_acked", lambda self, timeout: waited.append(self))
    stop = threading.Event()
    if stopped:
        stop.set()
    play_bag(drive, PlayOptions(rate=20.0), stop)
    assert bool(waited) != stopped


def test_loop_goes_on_where_the_pass_ended(probe: Probe, drive: Path, start) -> None:
    with (
        probe.listening(PointCloud2, "/bag/points", ALL) as points,
        probe.listening(TFMessage, "/bag/tf", ALL) as moving,
        probe.listening(TFMessage, "/bag/tf_static", ALL_LATCHED) as latched,
        probe.listening(Clock, "/clock") as clock,
    ):
        player = start(PLAY, drive, loop=True, rate=2.0, wait_for=["/bag/points", "/bag/tf"])
        points.wait(lambda message: messages.stamp_to_ns(message.header.stamp) >= START + 12 * S // 10)
        assert "whole passes" in end(player)
        assert player.returncode == 0
    stamps = [messages.stamp_to_ns(message.header.stamp) for message in points.messages]
    np.testing.assert_array_equal(np.diff(stamps), S // 10, "no gap and no step back between the passes")
    assert scan_numbers(points)[:12] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]
    edges = {messages.stamp_to_ns(m.transforms[0].header.stamp): m.transforms[0] for m in moving.messages}
    for stamp, number in zip(stamps[:12], scan_numbers(points), strict=False):
        assert edges[stamp].transform.translation.x == number - 1, "each scan's own pose, in every pass"
    assert len(latched.messages) == 1, "what is latched is not sent again"
    ticks = [messages.stamp_to_ns(message.clock) for message in clock.messages]
    assert ticks == sorted(ticks) and ticks[-1] > START + S


def test_latched_topics_reach_late_subscribers(probe: Probe, drive: Path, start) -> None:
    start(PLAY, drive, loop=True)
    with probe.listening(PointCloud2, "/bag/points", qos.SENSOR) as points:
        points.wait()
    with probe.listening(TFMessage, "/bag/tf_static", qos.TF_STATIC) as latched:
        assert latched.wait().transforms[0].child_frame_id == "lidar"


def test_topics_remap_and_duration(probe: Probe, drive: Path, start) -> None:
    with (
        probe.listening(PointCloud2, "/other/points", ALL) as renamed,
        probe.listening(TFMessage, "/bag/tf", ALL) as left_out,
    ):
        arguments = {
            "topics": ["/bag/points"],
            "remap": {"/bag/points": "/other/points"},
            "loop": True,
            "seconds": 2,
            "wait_for": ["/other/points"],
        }
        player = start(PLAY, drive, **arguments)
        renamed.wait()
        assert player.wait(60) == 0
    assert not left_out.messages


def test_in_one_process_with_a_stop_event(drive: Path) -> None:
    began = time.monotonic()
    report = play_bag(drive, PlayOptions(loop=True, rate=4.0, duration_s=0.6))
    assert report.passes >= 3 and report.published["/bag/points"] >= 15
    assert time.monotonic() - began >= 0.6


def test_gaps_of_years_are_not_waited_for(tmp_path: Path) -> None:
    """Recorded with use_sim_time before /clock came: one message at 0, the rest 53 years later."""
    with BagWriter(tmp_path / "bag") as bag:
        for stamp in (0, START, START + S // 10):
            bag.write("/gap/tf", bag_messages.tf_message([("odom", "base", stamp, np.eye(4))]), stamp)
    report = play_bag(tmp_path / "bag", PlayOptions(duration_s=20.0))
    assert report.published == {"/gap/tf": 3}
    assert report.skipped_s == pytest.approx(START / S)


def test_loop_period_is_a_scan_longer_than_the_bag(drive: Path) -> None:
    with open_bag(drive) as bag:
        assert loop_period(bag) == S // 2


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (PlayOptions(rate=0.0), "rate is 0"),
        (PlayOptions(rate=float("nan")), "rate is nan"),
        (PlayOptions(topics=["/lidar"]), "no topic /lidar"),
    ],
)
def test_what_cannot_be_played_says_why(drive: Path, options: PlayOptions, cause: str) -> None:
    with pytest.raises(BagError, match=cause):
        play_bag(drive, options)


def test_real_ouster_bag_plays(probe: Probe, start) -> None:
    if (data := data_dir()) is None:
        pytest.skip("no shared test data")
    with probe.listening(PointCloud2, "/os1_cloud_node/points", ALL) as points:
        player = start(PLAY, data / "ouster_bag", wait_for=["/os1_cloud_node/points"])
        cloud = points.wait()
        points.wait(lambda message: message.header.stamp != cloud.header.stamp)
        output = player.communicate(timeout=60)[0]
    assert (cloud.height, cloud.width, cloud.point_step) == (64, 2048, 48)
    assert len(decode(cloud)) > 40_000
    assert "17 on /os1_cloud_node/imu" in output and player.returncode == 0
