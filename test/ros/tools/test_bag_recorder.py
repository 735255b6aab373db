"""The recorder as a process: what arrives is recorded, and the bag is always closed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bag_process import PLAY, RECORD, S, end
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from ros_harness import PATIENCE_S, Probe, transform_stamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from ov3d_perception.bags.pointcloud2 import structured
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.salvage import repair
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.errors import BagError
from ov3d_perception.ros import messages, qos
from ov3d_perception.ros.tools.bag_recorder import (
    RecordReport,
    _Recorder,
    record_bag,
    subscription_profile,
    why_left_out,
)

pytestmark = pytest.mark.live


class Sensor:
    """Publishes numbered clouds on a topic until told to stop."""

    def __init__(self, probe: Probe, topic: str, profile: Any = qos.SENSOR) -> None:
        self._probe = probe
        self.topic = topic
        self.sent = 0
        self._publisher = probe.node.create_publisher(PointCloud2, topic, profile)

    def publish(self) -> None:
        self.sent += 1
        columns = {name: np.full(20_000, self.sent, np.float32) for name in "xyz"}
        self._publisher.publish(messages.point_cloud(columns, self.sent * S, "lidar"))
        assert self._publisher.wait_for_all_acked(Duration(seconds=PATIENCE_S)), "by reliable subscribers"

    def wait_for_recorder(self, gone: bool = False) -> None:
        wanted = int(not gone)
        self._probe.wait_for(
            lambda: self._publisher.get_subscription_count() == wanted, f"{self.topic}: {wanted} readers"
        )

    def close(self) -> None:
        self._probe.node.destroy_publisher(self._publisher)


@pytest.fixture
def sensor(probe: Probe) -> Iterator[Callable[..., Sensor]]:
    sensors = []

    def make(topic: str, profile: Any = qos.SENSOR) -> Sensor:
        sensors.append(Sensor(probe, topic, profile))
        return sensors[-1]

    yield make
    for one in sensors:
        one.close()


def recorded(path: Path, topic: str) -> list[int]:
    with open_bag(path) as bag:
        return [int(structured(message.decode())["x"][0]) for message in bag.messages([topic])]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_bag_is_closed_on_every_signal(sensor, start, tmp_path: Path, number: int) -> None:
    front = sensor("/front/points", qos.OUTPUT)
    recorder = start(RECORD, tmp_path / "bag", topics=["/front/points"])
    front.wait_for_recorder()
    for _ in range(40):
        front.publish()
    output = end(recorder, number)
    assert recorder.returncode == 0, output
    numbers = recorded(tmp_path / "bag", "/front/points")
    assert len(numbers) >= 5 and numbers == list(range(1, len(numbers) + 1)), "all up to the signal"
    assert (tmp_path / "bag" / "metadata.yaml").is_file()


@pytest.mark.parametrize(
    ("topic", "msgtype", "reason"),
    [
        ("/velodyne_points", "sensor_msgs/msg/PointCloud2", None),
        ("/livox/lidar", "sensor_msgs/msg/PointCloud2", None),
        ("/camera/color/image_raw", "sensor_msgs/msg/Image", None),
        ("/front/image_raw", "sensor_msgs/msg/Image", "/front/image_raw/compressed is taken"),
        ("/front/image_raw/compressed", "sensor_msgs/msg/CompressedImage", None),
        ("/camera/depth/image_rect_raw", "sensor_msgs/msg/Image", "depth images teach nothing"),
        ("/front/image_raw/compressedDepth", "sensor_msgs/msg/CompressedImage", "depth images teach nothing"),
        ("/camera/color/camera_info", "sensor_msgs/msg/CameraInfo", None),
        ("/robot1/tf", "tf2_msgs/msg/TFMessage", None),
        ("/wheel/odometry", "nav_msgs/msg/Odometry", None),
        ("/imu/data", "sensor_msgs/msg/Imu", None),
        ("/robot1/lidar_node/output/points", "sensor_msgs/msg/PointCloud2", "it is an output of our own nodes"),
        ("/ground_truth/boxes", "visualization_msgs/msg/MarkerArray", None),
        ("/cmd_vel", "geometry_msgs/msg/Twist", ""),
    ],
)
def test_topics_are_chosen_by_type(topic: str, msgtype: str, reason: str | None) -> None:
    assert why_left_out(topic, msgtype, {topic, "/front/image_raw/compressed"}) == reason


def test_of_several_clouds_the_named_one_is_taken() -> None:
    cloud = "sensor_msgs/msg/PointCloud2"
    for points in ("/velodyne_points", "velodyne_points"):
        assert why_left_out("/velodyne_points", cloud, (), points) is None
        assert why_left_out("/livox/lidar", "livox_ros_driver2/msg/CustomMsg", (), points) == f"points is {points}"
        assert why_left_out("/imu/data", "sensor_msgs/msg/Imu", (), points) is None


@pytest.mark.parametrize(
    ("topics", "received", "told"),
    [
        ({"/silent/points"}, 0, "No cloud has come on /silent/points yet"),
        (set(), 0, "No PointCloud2 is published yet"),
        ({"/points"}, 1, ""),
    ],
)
def test_what_is_told_while_no_cloud_comes(topics: set[str], received: int, told: str) -> None:
    warnings: list[str] = []
    node = SimpleNamespace(get_logger=lambda: SimpleNamespace(warning=warnings.append))
    report = RecordReport(Path("bag"), chosen=True, clouds=topics)
    recorder: Any = SimpleNamespace(_node=node, _report=report, _clouds_received=received)
    _Recorder._warn_without_cloud(recorder)
    assert [told in warning for warning in warnings] == ([True] if told else [])


def test_recording_without_a_cloud_is_told(start, probe: Probe, tmp_path: Path) -> None:
    publisher = probe.node.create_publisher(TFMessage, "/no_cloud/tf", qos.TF_STATIC)
    publisher.publish(TFMessage(transforms=[transform_stamped("a", "b", S, np.eye(4))]))
    recorder = start(RECORD, tmp_path / "bag")
    probe.wait_for(lambda: publisher.get_subscription_count() > 0, "a subscriber on /no_cloud/tf")
    output = end(recorder)
    probe.node.destroy_publisher(publisher)
    assert "NO POINT CLOUD was recorded" in output
    assert recorder.returncode == 1


def test_default_topics_and_late_ones(sensor, start, probe: Probe, tmp_path: Path) -> None:
    front = sensor("/velodyne_points", qos.OUTPUT)
    other = sensor("/lidar_node/output/points")
    static = probe.node.create_publisher(TFMessage, "/tf_static", qos.TF_STATIC)
    static.publish(TFMessage(transforms=[transform_stamped("rec_base", "rec_lidar", S, np.eye(4))]))
    recorder = start(RECORD, tmp_path / "bag")
    front.wait_for_recorder()
    late = sensor("/rear/points", qos.OUTPUT)
    late.wait_for_recorder()
    for _ in range(5):
        for one in (front, late, other):
            one.publish()
    output = end(recorder)
    probe.node.destroy_publisher(static)
    assert recorded(tmp_path / "bag", "/rear/points") == [1, 2, 3, 4, 5]
    with open_bag(tmp_path / "bag") as bag:
        assert "/lidar_node/output/points" not in bag.topics
        assert bag.topics["/velodyne_points"].count == 5
        assert "rec_lidar" in bag.transforms().frames, output
    assert "/rear/points: 5" in output
    assert "/lidar_node/output/points: left out, it is an output of our own nodes" in output
    assert recorder.returncode == 0


@pytest.mark.parametrize("clock_comes", [True, False])
def test_messages_before_the_first_clock_are_not_stamped_zero(
    sensor, probe: Probe, tmp_path: Path, clock_comes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = threading.Event()
    write = BagWriter.write_raw

    def tell(self: BagWriter, *arguments: Any) -> None:
        write(self, *arguments)
        written.set()

    monkeypatch.setattr(BagWriter, "write_raw", tell)
    front = sensor(f"/early_{clock_comes}/points", qos.OUTPUT)
    clock = probe.node.create_publisher(Clock, "/clock", 10)
    stop = threading.Event()
    options = {"use_sim_time": True, "stop": stop}
    thread = threading.Thread(target=record_bag, args=(tmp_path / "bag", [front.topic]), kwargs=options)
    before = time.time_ns()
    thread.start()
    front.wait_for_recorder()
    for _ in range(3):
        front.publish()
    if clock_comes:

        def publish() -> bool:
            clock.publish(Clock(clock=messages.ns_to_stamp(100 * S)))
            front.publish()
            return written.is_set()

        probe.wait_for(publish, "a message in the bag")
    stop.set()
    thread.join()
    probe.node.destroy_publisher(clock)
    with open_bag(tmp_path / "bag") as bag:
        stamps = [message.stamp for message in bag.messages([front.topic])]
    assert len(stamps) == front.sent
    assert all(stamp == 100 * S if clock_comes else stamp >= before for stamp in stamps)


def test_slow_disk_drops_and_counts(sensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of two clouds before a disk that hangs in the first: the rest is dropped, counted, and nothing blocks."""
    write, begun, freed = BagWriter.write_raw, threading.Event(), threading.Event()

    def slow(self: BagWriter, *arguments: Any) -> None:
        begun.set()
        freed.wait()
        write(self, *arguments)

    monkeypatch.setattr(BagWriter, "write_raw", slow)
    front = sensor("/slow/points", qos.OUTPUT)
    stop, reports = threading.Event(), []
    thread = threading.Thread(
        target=lambda: reports.append(
            record_bag(tmp_path / "bag", ["/slow/points"], queue_bytes=2 * 240_500, stop=stop)
        )
    )
    thread.start()
    front.wait_for_recorder()
    front.publish()
    begun.wait()
    for _ in range(19):
        front.publish()
    stop.set()
    front.wait_for_recorder(gone=True)
    freed.set()
    thread.join()
    (report,) = reports
    assert (report.written["/slow/points"], report.dropped["/slow/points"]) == (3, 17)
    assert "DROPPED" in str(report)
    assert recorded(tmp_path / "bag", "/slow/points") == [1, 2, 3]


def test_full_disk_ends_it_with_the_bag_closed(sensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = BagWriter.write_raw, []

    def full(self: BagWriter, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        write(self, *arguments)

    monkeypatch.setattr(BagWriter, "write_raw", full)
    front, errors = sensor("/full/points", qos.OUTPUT), []

    def run() -> None:
        try:
            record_bag(tmp_path / "bag", ["/full/points"])
        except BagError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    front.wait_for_recorder()
    for _ in range(6):
        front.publish()
    thread.join()
    assert "No space left" in str(errors[0])
    assert recorded(tmp_path / "bag", "/full/points") == [1, 2, 3]


def test_existing_bag_is_not_overwritten(drive: Path) -> None:
    with pytest.raises(BagError, match="exists already"):
        record_bag(drive)


def test_profile_that_all_publishers_can_serve() -> None:
    reliable, best_effort = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
    assert subscription_profile([qos.LATCHED]).durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert subscription_profile([qos.LATCHED, qos.OUTPUT]).durability == DurabilityPolicy.VOLATILE
    assert subscription_profile([qos.OUTPUT, qos.LATCHED]).reliability == reliable
    assert subscription_profile([qos.OUTPUT, qos.SENSOR]).reliability == best_effort


def test_what_is_played_is_what_is_recorded(drive: Path, start, tmp_path: Path) -> None:
    """Player to recorder, over the wire, byte for byte."""
    recorder = start(RECORD, tmp_path / "bag", topics=["/bag/*"])
    player = start(PLAY, drive, wait_for=["/bag/points", "/bag/tf", "/bag/tf_static"], clock=False)
    assert player.wait(90) == 0
    end(recorder)
    with open_bag(drive) as played, open_bag(tmp_path / "bag") as copy:
        for topic in ("/bag/points", "/bag/tf", "/bag/tf_static"):
            assert [m.data for m in played.messages([topic])] == [m.data for m in copy.messages([topic])]


# Last: a process killed outright leaves its end of the shared memory behind, which can swallow what is sent next.
def test_killed_recorder_leaves_what_repair_can_read(probe: Probe, sensor, start, tmp_path: Path) -> None:
    front = sensor("/front/points", qos.OUTPUT)
    recorder = start(RECORD, tmp_path / "bag", topics=["/front/points"])
    front.wait_for_recorder()
    for _ in range(40):
        front.publish()
    storage = tmp_path / "bag" / "bag.mcap"
    probe.wait_for(lambda: storage.stat().st_size > 4_000_000, "writing")
    recorder.kill()
    recorder.wait()
    with pytest.raises(BagError, match="ov3d bag repair"):
        open_bag(tmp_path / "bag")
    kept = repair(tmp_path / "bag", tmp_path / "repaired")
    numbers = recorded(tmp_path / "repaired", "/front/points")
    assert len(numbers) == kept["/front/points"] >= 10
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
