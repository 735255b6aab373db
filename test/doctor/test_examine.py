"""Each fault, alone in a bag that is good otherwise, is named; the good bag has no warning."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty_bags import CAMERA, OPTICAL, SCANS, START, Drive, S, write
from rosbags.interfaces import QosDurability
from scipy.spatial.transform import Rotation

from ov3d_perception.bags import messages
from ov3d_perception.bags.images import encode_jpeg
from ov3d_perception.bags.typestore import learn
from ov3d_perception.bags.writer import LATCHED, BagWriter
from ov3d_perception.doctor.examine import Examination, examine
from ov3d_perception.doctor.report import Finding, Report, Severity
from ov3d_perception.errors import BagError
from ov3d_perception.types import Camera

IMAGE, INFO = "/front/image_raw/compressed", "/front/camera_info"
QUICK = Examination(frames=0)


def only(topic: str, alter: Callable[[int, Any], Any]) -> Callable[[str, int, Any], Any]:
    return lambda name, number, message: alter(number, message) if name == topic else message


def at_stamp(message: Any, stamp: int) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, S)
    return message


def info_of(camera: Camera) -> Callable[[int, Any], Any]:
    return lambda number, message: messages.camera_info(camera, START + number * S // 10, "front_optical")


def jumping(number: int, message: Any) -> Any:
    message.transforms[0].transform.translation.y += 3.0 if number > 60 else 0.0
    return message


def broken_layout(number: int, message: Any) -> Any:
    return replace(message, data=message.data[:-100]) if number % 2 else message


def of_other_times(number: int, message: Any) -> Any:
    """The times of all points are alike."""
    names = ("x", "y", "z")
    columns = {name: np.full(2000, 5.0 + index, np.float32) for index, name in enumerate(names)}
    return messages.point_cloud(columns | {"time": np.full(2000, 77.0, np.float32)}, START + number * S // 10, "lidar")


def with_fields(alter: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Callable[[int, Any], Any]:
    """Clouds of the drive's 32 rings with altered columns."""

    def changed(number: int, message: Any) -> Any:
        raw = np.frombuffer(message.data, np.uint8).reshape(-1, message.point_step)
        columns = {}
        for one in message.fields:
            kind = {7: np.float32, 4: np.uint16}[one.datatype]
            columns[one.name] = raw[:, one.offset :][:, : np.dtype(kind).itemsize].copy().view(kind)[:, 0]
        return messages.point_cloud(alter(columns), START + number * S // 10, "lidar")

    return changed


def four_rings(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    kept = columns["ring"] % 8 == 0
    return {name: column[kept] for name, column in columns.items()}


def mostly_negative(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return columns | {"intensity": np.where(columns["ring"] % 4, -50, 100).astype(np.float32)}


def theora_alone(bag: BagWriter) -> None:
    learn("theora_image_transport/msg/Packet", "std_msgs/Header header\nuint8[] data\n")
    for number in range(SCANS):
        bag.write_raw(
            "/rear/image_raw/theora", "theora_image_transport/msg/Packet", b"\0" * 64, START + number * S // 10
        )


def volatile(bag: BagWriter) -> None:
    bag.add_topic("/tf_static", "tf2_msgs/msg/TFMessage", [LATCHED._replace(durability=QosDurability.VOLATILE)])


def two_parents(bag: BagWriter) -> None:
    for number in range(10 * SCANS):
        stamp = START + number * S // 100
        bag.write("/tf", messages.tf_message([("mast", "lidar", stamp, np.eye(4))]), stamp)


DISTORTED = np.array([-0.3, 0.1, 0.0, 0.0])
FAULTS: dict[str, tuple[dict[str, Any], Severity, str, str]] = {
    "no cloud": ({"skip": lambda topic, n: topic == "/points"}, Severity.ERROR, "clouds", "no point cloud"),
    "no images": ({"skip": lambda topic, n: topic == IMAGE}, Severity.ERROR, "cameras", "no image topic"),
    "no camera_info": ({"skip": lambda topic, n: topic == INFO}, Severity.WARNING, "camera_info", "no camera_info"),
    "no odometry": ({"skip": lambda topic, n: topic == "/tf"}, Severity.WARNING, "odometry", "lacks the frame 'odom'"),
    "no static TF": ({"skip": lambda topic, n: topic == "/tf_static"}, Severity.ERROR, "camera_info", "the bag's TF"),
    "lost scans": (
        {"skip": lambda topic, n: topic == "/points" and 8 <= n < 13}, Severity.WARNING, "gaps", "5 messages are",
    ),
    "lost images": (
        {"skip": lambda topic, n: topic == IMAGE and n % 8 != 0}, Severity.WARNING, "pairs", "have no image within",
    ),
    "another clock": (
        {"change": only(IMAGE, lambda n, m: at_stamp(m, START + n * S // 10 - 37 * S))}, Severity.ERROR, "clock", "37.",
    ),
    "stamps of the future": (
        {"change": only("/points", lambda n, m: at_stamp(m, START + n * S // 10 + S // 5))},
        Severity.WARNING, "arrival", "after the arrival",
    ),
    "late messages": (
        {"late": lambda topic, n: 900_000_000 + n % 7 * 1_000_000 if topic == "/points" else 0},
        Severity.WARNING, "arrival", "ms after their stamp",
    ),
    "stamps repeated": (
        {"change": only("/points", lambda n, m: at_stamp(m, START + n // 2 * S // 5))},
        Severity.WARNING, "stamps", "stamp of the one before",
    ),
    "a jump": ({"change": only("/tf", jumping)}, Severity.WARNING, "jumps", "the pose jumps 1 times"),
    "broken clouds": ({"change": only("/points", broken_layout)}, Severity.WARNING, "clouds", "cannot be read"),
    "times alike": ({"change": only("/points", of_other_times)}, Severity.WARNING, "clouds/times", "time"),
    "another size": (
        {"change": only(INFO, info_of(Camera("front", 960, 400, CAMERA.K)))}, Severity.ERROR, "camera_info", "480",
    ),
    "unknown lens": (
        {"change": only(INFO, lambda n, m: replace(m, distortion_model="cubic", d=DISTORTED))},
        Severity.ERROR, "camera_info", "unknown distortion model",
    ),
    "not calibrated": (
        {"change": only(INFO, lambda n, m: replace(m, k=np.zeros(9)))}, Severity.ERROR, "camera_info", "not calibrated",
    ),
    "a video transport": ({"before": theora_alone}, Severity.WARNING, "transport", "theora alone"),
    "volatile /tf_static": ({"before": volatile}, Severity.WARNING, "qos", "volatile"),
    "two parents": ({"before": two_parents}, Severity.ERROR, "transforms", "parent"),
    "TF pauses": (
        {"skip": lambda topic, n: topic == "/tf" and 20 <= n < 100}, Severity.WARNING, "odometry", "have no pose",
    ),
    "clipped intensity": (
        {"change": only("/points", with_fields(mostly_negative))},
        Severity.WARNING, "clouds/intensity", "clipped",
    ),
    "few beams": ({"change": only("/points", with_fields(four_rings))}, Severity.WARNING, "density", "a person gets"),
    "clouds of the map": (
        {"change": only("/points", lambda n, m: replace(m, header=replace(m.header, frame_id="odom")))},
        Severity.ERROR, "clouds", "moves",
    ),
    "clouds of no frame": (
        {"change": only("/points", lambda n, m: replace(m, header=replace(m.header, frame_id="")))},
        Severity.ERROR, "transforms", "no frame_id",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str, drive: Drive, tmp_path: Path) -> None:
    how, severity, check, text = FAULTS[fault]
    report = examine(write(tmp_path / "bag", drive, **how), QUICK)
    named = [finding for finding in report.findings if finding.check == check and text in finding.what]
    assert named, str(report)
    assert named[0].severity is severity
    assert named[0].why and named[0].do
    assert report.exit_code == {Severity.WARNING: 1, Severity.ERROR: 3}[report.worst]


@pytest.fixture(scope="module")
def good(drive: Drive, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return examine(write(tmp_path_factory.mktemp("good") / "bag", drive))


def test_a_good_bag_has_no_warning(good: Report) -> None:
    assert good.worst <= Severity.UNKNOWN, str(good)
    assert good.exit_code == 0
    checks = {finding.check for finding in good.findings}
    assert {"calibration", "clouds", "density", "odometry", "pairs", "points in view", "rate", "teaching"} <= checks


def test_a_throttled_lidar_has_its_images(drive: Drive, tmp_path: Path) -> None:
    """Two scans a second, each with an image of its own moment: a scan lasts no longer for being sent rarely."""
    rare = write(tmp_path / "bag", drive, skip=lambda topic, n: topic in ("/points", IMAGE, INFO) and n % 5 != 0)
    pairs = of(examine(rare, QUICK), "pairs")
    assert pairs.severity is Severity.GOOD, str(pairs)


def test_its_json_holds_the_same(good: Report) -> None:
    read = json.loads(good.to_json())
    assert (read["exit_code"], read["worst"], len(read["findings"])) == (0, "unknown", len(good.findings))
    calibration = next(finding for finding in read["findings"] if finding["check"] == "calibration")
    assert calibration["figures"]["frames"] == 24


def of(report: Report, check: str) -> Finding:
    return next(finding for finding in report.findings if finding.check == check)


def test_a_turned_camera_is_measured(drive: Drive, tmp_path: Path) -> None:
    turned = OPTICAL.copy()
    turned[:3, :3] = OPTICAL[:3, :3] @ Rotation.from_euler("y", 2, degrees=True).as_matrix()
    found = of(examine(write(tmp_path / "bag", drive, mount=turned)), "calibration")
    assert found.severity is Severity.ERROR
    assert found.figures["turn_deg"]["value"][1] == pytest.approx(2, abs=0.4)


def test_late_stamps_of_images_are_measured(drive: Drive, tmp_path: Path) -> None:
    found = of(examine(write(tmp_path / "bag", drive, lag_s=0.08)), "calibration")
    assert found.figures["delay_s"]["value"] == pytest.approx(0.08, abs=0.03)


@pytest.mark.parametrize(
    ("alter", "text"),
    [
        (lambda picture, number: np.zeros_like(picture), "dark or of one colour"),
        (lambda picture, number: np.random.default_rng(0).integers(0, 255, picture.shape, np.uint8), "are the same"),
    ],
)
def test_a_dead_camera_is_named(alter: Callable[..., Any], text: str, drive: Drive, tmp_path: Path) -> None:
    def change(topic: str, number: int, message: Any) -> Any:
        if topic != IMAGE:
            return message
        data = encode_jpeg(alter(drive.pictures[number], number))
        return messages.compressed_image(data, "jpeg", START + number * S // 10, "front_optical")

    found = of(examine(write(tmp_path / "bag", drive, change=change), Examination(frames=6)), "pictures")
    assert found.severity is Severity.ERROR
    assert text in found.what


def test_a_camera_with_the_axes_of_a_body_is_named(drive: Drive, tmp_path: Path) -> None:
    """x ahead and z up, as REP 103 has it for bodies: its images would look at the sky."""
    body = OPTICAL.copy()
    body[:3, :3] = np.eye(3)
    found = of(examine(write(tmp_path / "bag", drive, mount=body), Examination(frames=4)), "points in view")
    assert found.severity is Severity.ERROR
    assert "optical axes" in found.do


def test_a_camera_that_looks_away_is_named(drive: Drive, tmp_path: Path) -> None:
    up = OPTICAL.copy()
    up[:3, :3] = OPTICAL[:3, :3] @ Rotation.from_euler("x", 90, degrees=True).as_matrix()
    found = of(examine(write(tmp_path / "bag", drive, mount=up), Examination(frames=4)), "points in view")
    assert found.severity is Severity.ERROR


def test_damage_is_a_finding_and_no_bag_an_error(drive: Drive, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", drive)
    storage = next(bag.glob("*.mcap"))
    storage.write_bytes(storage.read_bytes()[:-1000])
    report = examine(bag, QUICK)
    assert of(report, "storage").severity is Severity.ERROR
    assert "ov3d bag repair" in of(report, "storage").do and "damage" in of(report, "storage").why
    (tmp_path / "notes").mkdir()
    assert of(examine(tmp_path / "notes", QUICK), "storage").why == "Nothing can be read"
    with pytest.raises(BagError):
        examine(tmp_path / "none")
