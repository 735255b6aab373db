"""Player and recorder as processes: what is played arrives, what arrives is recorded, and the bag is always closed."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rclpy.duration import Duration
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from real_data import data_dir
from ros_harness import PATIENCE_S, Inbox, Probe, transform_stamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from ov3d_perception.bags import messages as bag_messages
from ov3d_perception.bags.pointcloud2 import decode, structured
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.salvage import repair
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.errors import BagError
from ov3d_perception.ros import messages, qos
from ov3d_perception.ros.tools.bag_player import PlayOptions, loop_period, play_bag
from ov3d_perception.ros.tools.bag_recorder import (
    RecordReport,
    _Recorder,
    record_bag,
    subscription_profile,
    why_left_out,
)
from ov3d_perception.ros.tools.up import restore_signals

pytestmark = pytest.mark.live

S = 1_000_000_000
START = 1_700_000_000 * S
PLAY = (
    "import sys, json; from ov3d_perception.ros.tools.bag_player import play; "
    "play(sys.argv[1], **json.loads(sys.argv[2]))"
)
RECORD = (
    "import sys, json; from ov3d_perception.ros.tools.bag_recorder import record; "
    "sys.exit(record(sys.argv[1], **json.loads(sys.argv[2])))"
)
ALL = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
ALL_LATCHED = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.5 s at 10 Hz on /bag/...: five clouds (x = number of the scan), transforms, a latched one, a foreign type."""
    path = tmp_path_factory.mktemp("bag") / "drive"
    with BagWriter(path) as bag:
        bag.write("/bag/tf_static", bag_messages.tf_message([("base", "lidar", START, np.eye(4))]), START)
        for index in range(5):
            stamp = START + index * S // 10
            T = np.eye(4)
            T[0, 3] = index
            bag.write("/bag/tf", bag_messages.tf_message([("odom", "base", stamp, T)]), stamp)
            columns = {name: np.full(20_000, index + 1, np.float32) for name in ("x", "y", "z", "intensity")}
            bag.write("/bag/points", bag_messages.point_cloud(columns, stamp, "lidar"), stamp)
    return path


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., subprocess.Popen]]:
    """start(script, path, **arguments): a process that is gone when the test is."""
    with contextlib.ExitStack() as stack:

        def run(script: str, path: Path, **arguments: Any) -> subprocess.Popen:
            command = [sys.executable, "-c", script, str(path), json.dumps(arguments)]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=restore_signals
            )
            stack.callback(end, process)
            return process

        yield run


def end(process: subprocess.Popen, number: int = signal.SIGINT) -> str:
    """Its output, once it has ended after a signal."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"does not end after signal {number}: {process.communicate()[0]}")


def scan_numbers(inbox: Inbox) -> list[int]:
    return [int(structured(message)["x"][0]) for message in inbox.messages]


# -- player ----------------------------------------------------------------------------------------------------------


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


# -- recorder --------------------------------------------------------------------------------------------------------


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
