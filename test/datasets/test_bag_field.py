"""What robots really record: times of any driver, cameras on another clock, LiDARs that hang or lean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ov3d_perception.bags import messages
from ov3d_perception.bags.images import encode_png
from ov3d_perception.bags.info import info
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.datasets.bag import Bag
from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.poses import transform
from ov3d_perception.geometry.sweeps import merge
from ov3d_perception.types import Camera

S = 1_000_000_000
START = 1_700_000_000 * S
SPEED, YAW_RATE = 10.0, 0.5
POINTS = 200
CAMERA = Camera("front", 40, 30, np.array([[30.0, 0, 19.5], [0, 30.0, 14.5], [0, 0, 1]]))
OPTICAL = np.array([[0.0, 0, 1, 0.5], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
TRUE = np.linspace(0, 0.0995, POINTS)  # of each point, seconds after the first
PLACES = np.random.default_rng(0).uniform((15, -8, -1), (40, 8, 4), (POINTS, 3))  # in odom


def base(stamp: float) -> np.ndarray:
    """The robot drives a curve; ``stamp`` in ns."""
    t = (stamp - START) / S
    T = np.eye(4)
    c, s, radius = np.cos(YAW_RATE * t), np.sin(YAW_RATE * t), SPEED / YAW_RATE
    T[:2, :2], T[:2, 3] = [[c, -s], [s, c]], (radius * s, radius * (1 - c))
    return T


def mount(R: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[2, 3] = R, 1.8
    return T


def record(
    path: Path,
    time: Callable[[int], dict[str, np.ndarray]] = lambda first: {"time": np.float32(TRUE)},
    header: float = 0.0,
    R: np.ndarray | None = None,
    image_clock: float = 0.0,
    lidar_clock: float = 0.0,
    imu: bool = False,
    static: bool = True,
) -> Path:
    """0.6 s: scans at 10 Hz whose points see PLACES from where the sensor is at their time; images at 20 Hz.

    time: fields of a scan whose first point is measured at ``first`` (ns); header: seconds from there to its stamp.
    R: the LiDAR's mounting. image_clock, lidar_clock: by how much the sensors' clocks are ahead. static: TF knows the
    LiDAR's mounting as a static transform; else odom carries the LiDAR itself.
    """
    T_base_lidar = mount(np.eye(3) if R is None else R)
    with BagWriter(path) as bag:
        edges = [("base_link", "lidar", START, T_base_lidar)] if static else []
        bag.write("/tf_static", messages.tf_message([*edges, ("base_link", "optical", START, OPTICAL)]), START)
        for tick in range(-20, 90):
            at = START + tick * S // 100
            edges = (
                [("odom", "base_link", at, base(at))] if static else [("odom", "lidar", at, base(at) @ T_base_lidar)]
            )
            bag.write("/tf", messages.tf_message(edges), at)
        for number in range(14):
            at = START + number * S // 20
            stamp = at + round(image_clock * S)
            image = messages.compressed_image(
                encode_png(np.full((30, 40, 3), number, np.uint8)), "png", stamp, "optical"
            )
            bag.write("/front/image_raw/compressed", image, at)
            bag.write("/front/camera_info", messages.camera_info(CAMERA, stamp, "optical"), at)
        for number in range(6):
            first = START + number * S // 10
            poses = [base(first + t * S) @ T_base_lidar for t in TRUE]
            xyz = np.stack([transform(np.linalg.inv(T), p[None])[0] for T, p in zip(poses, PLACES, strict=True)])
            columns: dict[str, np.ndarray] = {k: xyz[:, i].astype(np.float32) for i, k in enumerate("xyz")}
            stamp = first + round((header + lidar_clock) * S)
            cloud = messages.point_cloud(columns | time(first), stamp, "lidar")
            bag.write("/points", cloud, first + S // 10)
            if imu:
                bag.write("/imu", imu_message(first, T_base_lidar[2, :3]), first)
    return path


def imu_message(stamp: int, up: np.ndarray) -> Any:
    zero = messages.build("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    gravity = messages.build("geometry_msgs/msg/Vector3", **dict(zip("xyz", map(float, up), strict=True)))
    return messages.build(
        "sensor_msgs/msg/Imu", header=messages.header(stamp, "lidar"),
        orientation=messages.build("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=0.0),
        orientation_covariance=np.zeros(9), angular_velocity=zero, angular_velocity_covariance=np.zeros(9),
        linear_acceleration=gravity, linear_acceleration_covariance=np.zeros(9),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("time", "header"),
    [
        (lambda first: {"time": np.float32(TRUE)}, 0.0),
        (lambda first: {"t": np.uint32(TRUE * 1e9)}, 0.0),
        (lambda first: {"time": np.uint32(TRUE * 1e6)}, 0.0),
        (lambda first: {"time": np.float32(TRUE * 1e6)}, 0.0),
        (lambda first: {"time": np.float32(TRUE * 1e3)}, 0.0),
        (lambda first: {"timestamp": TRUE * 1e9}, 0.0),
        (lambda first: {"timestamp": first + TRUE * 1e9}, 0.0),
        (lambda first: {"timestamp": first / 1e9 + TRUE}, 0.0),
        (lambda first: {"timestamp": first / 1e9 + TRUE}, 0.1),
        (lambda first: {"timestamp": first / 1e9 + TRUE}, 0.05),
        (lambda first: {"time": np.float32(TRUE - 0.1)}, 0.1),
        (lambda first: {"timestamp": first - START + 1234e9 + TRUE * 1e9}, 0.0),  # since power-on
    ],
)  # fmt: skip
def test_deskewed_points_lie_where_they_are(time: Any, header: float, tmp_path: Path) -> None:
    """On a curve at 10 m/s, within a millimetre, whatever unit, clock and moment of the stamp."""
    (sweep,) = Bag(record(tmp_path / "bag", time, header))[3].sweeps
    world = transform(sweep.T_world_lidar, sweep.scan.xyz.astype(np.float64))
    np.testing.assert_allclose(world, PLACES, atol=1e-3)


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (lambda first: {"timestamp": np.full(POINTS, START / 1e9)}, "all points have the same time"),
        (lambda first: {"timestamp": first / 1e9 - 5 + TRUE}, "begin 5.000 s before the stamp"),
    ],
)  # fmt: skip
def test_times_that_cannot_be_true_move_nothing(
    time: Any, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = record(tmp_path / "bag", time)
    raw = Bag(path, deskew=False)[3].sweeps[0].scan.xyz
    caplog.clear()
    np.testing.assert_array_equal(Bag(path)[3].sweeps[0].scan.xyz, raw)
    assert caplog.text.count(said) == 1


def test_time_offset_corrects_a_known_clock(tmp_path: Path) -> None:
    path = record(tmp_path / "bag", lambda first: {"timestamp": first / 1e9 + 37 + TRUE})
    (sweep,) = Bag(path, time_offset=-37.0)[3].sweeps
    np.testing.assert_allclose(transform(sweep.T_world_lidar, sweep.scan.xyz.astype(float)), PLACES, atol=1e-3)


def test_stray_times_are_counted_and_stay_as_measured(tmp_path: Path) -> None:
    def wrapped(first: int) -> dict[str, np.ndarray]:
        ticks = np.uint32(TRUE * 1e9)
        ticks[:5] = 2**32 - 50_000
        return {"t": ticks}

    source = Bag(record(tmp_path / "bag", wrapped))
    frame = source[3]
    world = transform(frame.sweeps[0].T_world_lidar, frame.sweeps[0].scan.xyz.astype(float))
    np.testing.assert_allclose(world[5:], PLACES[5:], atol=1e-3)
    assert source.left_out["stray times"] >= 5 and len(frame.views) == 1


@pytest.mark.parametrize(
    ("header", "start"), [(0.0, 0.0), (0.1, -0.1), (0.05, -0.05)], ids=["first point", "last point", "middle"]
)
def test_the_image_is_that_of_the_middle_of_the_measured_times(header: float, start: float, tmp_path: Path) -> None:
    bag = Bag(record(tmp_path / "bag", lambda first: {"time": np.float32(start + TRUE)}, header))
    assert bag[3].views[0].stamp == START + 350_000_000


@pytest.mark.parametrize(
    ("clock", "said"),
    [(-5.0, "4.9 s behind"), (37.0, "TAI"), (123 - START / S, "power-on")],
)  # fmt: skip
def test_a_camera_on_another_clock_is_named(clock: float, said: str, tmp_path: Path) -> None:
    path = record(tmp_path / "bag", image_clock=clock)
    with pytest.raises(DatasetError, match=f"/front/image_raw/compressed: its stamps are .*{said}.*clock"):
        Bag(path)
    assert len(Bag(path, images=False)) == 6


def test_a_lidar_on_another_clock_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DatasetError, match="no scan has a pose"):
        Bag(record(tmp_path / "bag", lidar_clock=-5.0), images=False)
    assert "/points: its stamps are 5.1 s behind those of /tf" in caplog.text


MOUNTINGS = {
    "hung": Rotation.from_euler("x", 180, degrees=True).as_matrix(),
    "pitched": Rotation.from_euler("y", 30, degrees=True).as_matrix(),
    "rolled and turned": Rotation.from_euler("zx", [70, 20], degrees=True).as_matrix(),
    "optical": OPTICAL[:3, :3],
}


@pytest.mark.parametrize("name", MOUNTINGS)
def test_the_network_sees_an_upright_cloud(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However the LiDAR hangs, what is learned from and labelled is the cloud of a level one; pairs stay the same."""
    level, leaning = Bag(record(tmp_path / "level")), Bag(record(tmp_path / "bag", R=MOUNTINGS[name]))
    expected = merge(level[3].sweeps[:1]).xyz
    seen = merge(leaning[3].sweeps[:1]).xyz
    np.testing.assert_allclose(seen, expected, atol=1e-4)
    np.testing.assert_allclose(leaning[3].sweeps[0].scan.xyz @ MOUNTINGS[name].T, expected, atol=1e-4)
    np.testing.assert_allclose(associate(leaning[3]).uv, associate(level[3]).uv, atol=0.05)
    untouched = merge(Bag(tmp_path / "bag", upright="off")[3].sweeps[:1]).xyz
    assert np.abs(untouched - expected).max() > 1


def test_gravity_tells_where_tf_does_not(tmp_path: Path) -> None:
    """Without a base frame the IMU's gravity turns the cloud; its heading stays as it came."""
    path = record(tmp_path / "bag", R=MOUNTINGS["pitched"], imu=True, static=False)
    seen = merge(Bag(path, images=False)[3].sweeps[:1]).xyz
    expected = merge(Bag(record(tmp_path / "level"), images=False)[3].sweeps[:1]).xyz
    np.testing.assert_allclose(seen, expected, atol=1e-4)


def test_what_upright_asks_for_must_be_there(tmp_path: Path) -> None:
    path = record(tmp_path / "bag", static=False)
    for mode, said in (
        ("base", "No frame 'base_link'|not connect|unconnected"),
        ("imu", "No IMU"),
        ("up", "one of: auto"),
    ):
        with pytest.raises(DatasetError, match=said):
            Bag(path, images=False, upright=mode)
    with pytest.raises(DatasetError, match="time_unit is 'hours'"):
        Bag(path, images=False, time_unit="hours")
    assert len(Bag(path, images=False)) == 6


def test_a_cloud_in_the_map_is_refused_by_name(tmp_path: Path) -> None:
    """LiDAR odometry's registered cloud is not what the sensor sees; a LiDAR beside the road does not move at all."""
    for frame, still in (("odom", False), ("odom", True), ("lidar", False)):
        path = tmp_path / f"{frame}{still}"
        with BagWriter(path) as bag:
            for tick in range(10):
                at = START + tick * S // 10
                T = mount(np.eye(3)) if still else base(at)
                bag.write("/tf", messages.tf_message([("odom", "base_link", at, T)]), at) if not still else None
                if not tick:
                    edges = [("base_link", "lidar", at, mount(np.eye(3)))]
                    edges += [("odom", "base_link", at, T)] if still else []
                    bag.write("/tf_static", messages.tf_message(edges), at)
                xyz = dict(zip("xyz", PLACES.astype(np.float32).T, strict=True))
                bag.write("/points", messages.point_cloud(xyz, at, frame), at)
        if frame == "odom" and not still:
            with pytest.raises(DatasetError, match=r"/points is in 'odom', in which 'base_link' moves.*points="):
                Bag(path, images=False)
            assert "it is in 'odom', in which 'base_link' moves" in str(info(path))
        else:
            assert len(Bag(path, images=False)) == 10
            assert "moves" not in str(info(path))


def test_a_pause_of_tf_leaves_scans_out_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """TF at 10 Hz, none from 1 s to 3 s at 10 m/s; the scans of this time have no pose that one could believe."""
    path = tmp_path / "bag"
    with BagWriter(path) as bag:
        bag.write("/tf_static", messages.tf_message([("base_link", "lidar", START, mount(np.eye(3)))]), START)
        for tick in range(51):
            at = START + tick * S // 10
            if not 10 < tick < 30:
                bag.write("/tf", messages.tf_message([("odom", "base_link", at, base(at))]), at)
            xyz = dict(zip("xyz", PLACES.astype(np.float32).T, strict=True))
            bag.write("/points", messages.point_cloud(xyz, at, "lidar"), at)
    assert len(Bag(path, images=False)) == 51 - 19
    assert "19 scans without a pose left out" in caplog.text
    assert "'odom' <- 'base_link' has a gap" in caplog.text and "pauses for 2.0 s" in caplog.text
    assert "TF: 'odom' <- 'base_link' has a gap" in str(info(path))


def test_info_says_what_was_decided(tmp_path: Path) -> None:
    path = record(tmp_path / "bag", lambda first: {"t": np.uint32(TRUE * 1e9)}, R=MOUNTINGS["hung"], image_clock=-5.0)
    text = str(info(path))
    assert "t: uint32 nanoseconds after the stamp, 0.0 .. 99.5 ms" in text
    assert "turned upright from 180.0 degrees, by base_link <- lidar in TF" in text
    assert "/front/image_raw/compressed: its stamps are 4.9 s behind those of /points" in text
