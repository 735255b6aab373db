"""lidar_node with TF: accumulation of sweeps, de-skewing; transforms that are late, stale or missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from ros_harness import Inbox, Lidar, random_cloud, transform_stamped, values_of
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from ov3d_perception.bags import pointcloud2
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.vocabulary import TextBank, Vocabulary
from ov3d_perception.ros import messages, qos
from ov3d_perception.types import Pose, Scan

pytestmark = pytest.mark.live

NAME = "lidar_sweeps"
MS = 1_000_000
SPEED = 2.0  # m/s, forward
YAW_RATE = 0.5  # rad/s
T_base_lidar = np.array([[0.0, -1, 0, 0.3], [1, 0, 0, 0], [0, 0, 1, 1.5], [0, 0, 0, 1]])  # turned left by 90 degrees


@pytest.fixture(scope="module")
def lidar(start_node: Callable[..., Any], lidar_named: Callable[[str], Lidar], tiny_model: Path) -> Lidar:
    """One process for all tests of this file: three sweeps, de-skewing on."""
    parameters = {
        "checkpoint": str(tiny_model / "net.safetensors"),
        "text": str(tiny_model / "bank.npz"),
        "device": "cpu",
        "intensity_scale": "1.0",
        "sweeps": "3",
        "deskew": "always",
        "tf_timeout": "2.0",
        "diagnostics_period": "0.1",
    }
    start_node("ov3d_perception.ros.lidar_node", NAME, parameters)
    return lidar_named(NAME)


@pytest.fixture(scope="module")
def answer(tiny_model: Path) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """answer(xyz, intensity): the probabilities that the network gives this cloud's points."""
    segmenter = Segmenter.load(tiny_model / "net.safetensors", device="cpu")
    vocabulary = Vocabulary.from_words(segmenter.info.vocabulary, TextBank.load(tiny_model / "bank.npz"))

    def probabilities(xyz: np.ndarray, intensity: np.ndarray) -> np.ndarray:
        return segmenter(Scan(xyz.astype(np.float32), intensity), vocabulary).probability

    return probabilities


@pytest.fixture(scope="module")
def labelled(lidar: Lidar) -> Iterator[Inbox]:
    with lidar.probe.listening(PointCloud2, lidar.labelled) as inbox:
        yield inbox


class Robot:
    """Drives a circle from ``start`` on and says so on /tf."""

    def __init__(self, probe: Any) -> None:
        self.start = time.time_ns()
        self._node = probe.node
        self._moving = self._node.create_publisher(TFMessage, "/tf", qos.TF)
        self._static = self._node.create_publisher(TFMessage, "/tf_static", qos.TF_STATIC)
        self.mount("lidar_turned", T_base_lidar)

    def mount(self, frame_id: str, T_base_sensor: Pose) -> None:
        """Publish where a sensor is on the robot."""
        mount = transform_stamped("base_link", frame_id, self.start, T_base_sensor)
        self._static.publish(TFMessage(transforms=[mount]))

    def broadcast_edge(self, parent: str, child: str, count: int = 1) -> None:
        """Publish another transform ``count`` times."""
        edge = transform_stamped(parent, child, time.time_ns(), np.eye(4))
        self._moving.publish(TFMessage(transforms=[edge] * count))

    def close(self) -> None:
        self._node.destroy_publisher(self._moving)
        self._node.destroy_publisher(self._static)

    def T_odom_base(self, stamp: int) -> Pose:
        seconds = (stamp - self.start) * 1e-9
        yaw, radius = YAW_RATE * seconds, SPEED / YAW_RATE
        T = np.eye(4)
        T[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        T[:2, 3] = radius * np.sin(yaw), radius * (1 - np.cos(yaw))
        return T

    def T_odom_lidar(self, stamp: int) -> Pose:
        return self.T_odom_base(stamp) @ T_base_lidar

    def broadcast(self, *stamps: int) -> None:
        """Publish the poses of these moments."""
        moves = [transform_stamped("odom", "base_link", stamp, self.T_odom_base(stamp)) for stamp in stamps]
        self._moving.publish(TFMessage(transforms=moves))


@pytest.fixture
def robot(lidar: Lidar, labelled: Inbox, diagnostics: Inbox) -> Iterator[Robot]:
    """A robot whose transforms the node is known to receive."""
    robot = Robot(lidar.probe)

    def drive() -> None:
        robot.broadcast(robot.start - 20 * MS, robot.start)
        lidar.publish(random_cloud(10, stamp=robot.start - 10 * MS, frame_id="lidar_turned"))

    lidar.status(diagnostics, lambda s: _is_number(values_of(s)["TF age [s]"]), act=drive)
    lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.OK, act=drive)
    yield robot
    robot.close()


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()


def in_frame_of(robot: Robot, points: np.ndarray, taken: int, at: int) -> np.ndarray:
    """Points of the lidar's frame at one moment, in its frame at another."""
    T = np.linalg.inv(robot.T_odom_lidar(at)) @ robot.T_odom_lidar(taken)
    return (np.c_[points, np.ones(len(points))] @ T.T)[:, :3]


def xyz_of(message: PointCloud2) -> np.ndarray:
    points = pointcloud2.structured(message)
    return np.stack([points[name] for name in "xyz"], 1)


def agreement(probabilities: np.ndarray, expected: np.ndarray) -> float:
    """Share of equal values."""
    return float(np.isclose(probabilities, expected, rtol=1e-3).mean())


def test_three_sweeps_are_brought_together_by_tf(lidar, labelled, robot, answer) -> None:
    stamps = [robot.start + shift * MS for shift in (200, 300, 400)]
    robot.broadcast(*(robot.start + shift * MS for shift in range(0, 440, 20)))
    scans = [random_cloud(3000, seed, stamp, "lidar_turned") for seed, stamp in enumerate(stamps)]
    for scan in scans:
        received = pointcloud2.structured(lidar.exchange(labelled, scan))
    moved = [in_frame_of(robot, xyz_of(scan), stamp, stamps[-1]) for scan, stamp in zip(scans, stamps, strict=True)]
    intensity = np.concatenate([pointcloud2.structured(scan)["intensity"] for scan in scans[::-1]])
    expected = answer(np.concatenate(moved[::-1]), intensity)[:3000]
    np.testing.assert_array_equal(received["x"], pointcloud2.structured(scans[-1])["x"])
    # a point that rounding puts on the other side of a voxel's border changes its neighbourhood, too
    assert agreement(received["probability"], expected) > 0.9
    alone = answer(xyz_of(scans[-1]), intensity[:3000])
    assert agreement(received["probability"], alone) < 0.5, "a test that a single sweep would pass"


def test_points_are_brought_to_where_they_were_at_the_stamp(lidar, labelled, robot) -> None:
    stamp = robot.start + 500 * MS
    robot.broadcast(*(robot.start + shift * MS for shift in range(480, 640, 10)))
    seconds = np.linspace(0, 0.1, 200, dtype=np.float32)
    scan = random_cloud(200, 1, stamp, "lidar_turned", time=seconds)
    received = xyz_of(lidar.exchange(labelled, scan))
    taken = stamp + (seconds.astype(np.float64) * 1e9).astype(np.int64)
    expected = [in_frame_of(robot, point[None], moment, stamp)[0] for point, moment in
                zip(xyz_of(scan), taken.tolist(), strict=True)]  # fmt: skip
    np.testing.assert_allclose(received, expected, atol=2e-3)
    assert np.abs(received - xyz_of(scan)).max() > 0.15, "the last points have moved by 0.2 m"


def test_a_transform_that_comes_late_is_waited_for(lidar, labelled, robot, diagnostics) -> None:
    before, now = robot.start + 700 * MS, robot.start + 800 * MS
    robot.broadcast(*(robot.start + shift * MS for shift in range(0, 720, 20)))
    lidar.exchange(labelled, random_cloud(100, 2, before, "lidar_turned"))
    scan = random_cloud(100, 3, now, "lidar_turned")

    def scan_first_then_tf() -> None:
        lidar.publish(scan)
        robot.broadcast(now - 20 * MS, now + 20 * MS)

    lidar.probe.until(scan_first_then_tf, labelled, lambda m: messages.stamp_to_ns(m.header.stamp) == now)
    status = lidar.status(diagnostics)
    assert status.level == DiagnosticStatus.OK, status.message
    assert int(values_of(status)["sweeps"]) >= 2


def test_with_stale_tf_scans_are_labelled_one_by_one(lidar, labelled, robot, diagnostics, answer) -> None:
    stamp = robot.start + 30_000 * MS
    scan = random_cloud(300, 4, stamp, "lidar_turned")
    received = pointcloud2.structured(lidar.exchange(labelled, scan))
    alone = answer(xyz_of(scan), pointcloud2.structured(scan)["intensity"])
    assert agreement(received["probability"], alone) == 1.0
    status = lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.WARN)
    assert "one by one" in status.message and "use_sim_time" in status.message, "what happens, and the remedy"
    assert values_of(status)["sweeps"] == "1"


def test_without_tf_scans_are_labelled_one_by_one(lidar, labelled, diagnostics, answer) -> None:
    scan = random_cloud(300, 5, frame_id="unknown_lidar")
    received = pointcloud2.structured(lidar.exchange(labelled, scan))
    alone = answer(xyz_of(scan), pointcloud2.structured(scan)["intensity"])
    assert agreement(received["probability"], alone) == 1.0
    status = lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.WARN)
    assert "unknown_lidar" in status.message and "/tf" in status.message
    assert "not connected" in values_of(status)["TF age [s]"]


def test_a_hanging_lidar_is_seen_upright(lidar, labelled, robot, diagnostics, answer) -> None:
    """Turned by TF to base_link for the network; the points that come out lie in the sensor's frame, as they came."""
    hung = np.diag([1.0, -1.0, -1.0, 1.0])
    robot.mount("lidar_hung", hung)
    upright = random_cloud(300, 6)
    columns = {
        axis: sign * pointcloud2.structured(upright)[axis] for axis, sign in zip("xyz", (1, -1, -1), strict=True)
    }
    columns["intensity"] = pointcloud2.structured(upright)["intensity"]
    stamp = robot.start + 2_000 * MS  # too old for the sweeps of other tests

    def drive() -> None:
        robot.broadcast(stamp - 20 * MS, stamp + 20 * MS)
        lidar.publish(messages.point_cloud(columns, stamp, "lidar_hung"))

    def turned(status: DiagnosticStatus) -> bool:
        return values_of(status)["upright"] == "turned upright from 180.0 degrees, by base_link <- lidar_hung in TF"

    lidar.status(diagnostics, turned, act=drive)
    received = pointcloud2.structured(lidar.exchange(labelled, messages.point_cloud(columns, stamp, "lidar_hung")))
    np.testing.assert_array_equal(received["z"], columns["z"])
    expected = answer(xyz_of(upright), columns["intensity"])
    assert agreement(received["probability"], expected) > 0.98


def test_two_parents_of_a_frame_are_named_until_one_is_stopped(lidar, robot, diagnostics) -> None:
    def quarrel() -> None:
        for parent in ("map", "odom"):
            robot.broadcast_edge(parent, "wheel")

    status = lidar.status(diagnostics, lambda s: "parents" in s.message, act=quarrel)
    assert "Frame 'wheel' has 2 parents at once: 'map' and 'odom'. Stop one of the two publishers" in status.message
    lidar.status(
        diagnostics, lambda s: "parents" not in s.message, act=lambda: robot.broadcast_edge("odom", "wheel", 250)
    )


def test_times_of_another_clock_are_told(lidar, labelled, robot, diagnostics) -> None:
    stamp = robot.start + 3_000 * MS
    robot.broadcast(*(stamp + shift * MS for shift in (-20, 20, 120)))
    frozen = np.full(200, stamp * 1e-9 - 5.0)
    scan = random_cloud(200, 7, stamp, "lidar_turned", timestamp=frozen)
    received = xyz_of(lidar.exchange(labelled, scan))
    np.testing.assert_array_equal(received, xyz_of(scan))
    status = lidar.status(diagnostics, lambda s: "same time" in s.message)
    assert status.level == DiagnosticStatus.WARN
    assert values_of(status)["point times"].startswith("timestamp: float64 (all points have the same time")


def test_a_cloud_of_the_map_is_told(lidar, robot, diagnostics) -> None:
    """LiDAR odometry's registered points: the robot moves in their frame."""
    stamp = robot.start + 4_000 * MS
    robot.broadcast(stamp - 20 * MS, stamp + 20 * MS)
    registered = random_cloud(100, 8, stamp, "odom")
    status = lidar.status(
        diagnostics, lambda s: "'base_link' moves" in s.message, act=lambda: lidar.publish(registered)
    )
    assert status.level == DiagnosticStatus.WARN and "The cloud is in 'odom'" in status.message
    own = random_cloud(100, 8, stamp, "lidar_turned")
    lidar.status(diagnostics, lambda s: "'base_link' moves" not in s.message, act=lambda: lidar.publish(own))


def test_a_pause_of_tf_is_told_and_not_interpolated(lidar, labelled, robot, diagnostics) -> None:
    """Poses each 100 ms, then none for 2 s at 2 m/s: a scan of that time is labelled as it came."""
    first = robot.start + 5_000 * MS
    robot.broadcast(*(first + tick * 100 * MS for tick in (*range(5), *range(25, 30))))
    inside = random_cloud(100, 9, first + 1_500 * MS, "lidar_turned")
    received = xyz_of(lidar.exchange(labelled, inside))
    np.testing.assert_array_equal(received, xyz_of(inside))
    told = lidar.status(diagnostics, lambda s: "pauses for 2.1 s" in s.message, act=lambda: lidar.publish(inside))
    assert told.level == DiagnosticStatus.WARN and "odom <- base_link" in told.message
