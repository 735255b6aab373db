"""Frames from a bag: what was written comes back at the right poses; incomplete bags list what they lack."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from real_data import data_dir

from ov3d_perception.bags import messages
from ov3d_perception.bags.images import encode_png
from ov3d_perception.bags.info import info
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.datasets.bag import Bag
from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.datasets.semantickitti_bag import from_semantickitti
from ov3d_perception.errors import DatasetError, NoPosesError, PointCloudError
from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.cameras import resized
from ov3d_perception.geometry.poses import transform
from ov3d_perception.types import UNLABELLED, Camera

S = 1_000_000_000
START = 1_000 * S
SPEED = 10.0  # m/s along x
CAMERA = Camera("front", 40, 30, np.array([[30.0, 0, 19.5], [0, 30.0, 14.5], [0, 0, 1]]))
OPTICAL = np.array([[0.0, 0, 1, 0.5], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # 0.5 m ahead, looking ahead
LIDAR = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]])
WALL = np.array([100.0, 3.0, 1.0])  # a place in odom that every scan sees, and every point of a scan measures


def base(stamp: int) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = SPEED * (stamp - START) / S
    return T


def scan(stamp: int, points: int = 11) -> dict[str, np.ndarray]:
    """A revolution of 0.1 s during which the car drives on: each point sees WALL from where it is at its own time."""
    time = np.linspace(0, 0.1, points)
    xyz = np.stack([transform(np.linalg.inv(base(stamp + round(t * S)) @ LIDAR), WALL[None])[0] for t in time])
    columns = {name: xyz[:, axis].astype(np.float32) for axis, name in enumerate("xyz")}
    return columns | {"intensity": np.full(points, 51.0, np.float32), "time": time.astype(np.float32)}


def numbered(number: int, stamp: int, width: int = 40, height: int = 30) -> Any:
    """A picture whose pixels hold its number."""
    picture = np.full((height, width, 3), number, np.uint8)
    return messages.compressed_image(encode_png(picture), "png", stamp, "front_optical")


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """record(leave_out=...): 1 s; scans at 10 Hz, images at 20 Hz with a number in their pixels, TF at 50 Hz.

    image: the message of a number at a stamp; optical: pose of front_optical in its parent; pan_until: that parent is
    "pan", whose transform ends at this tick of TF, instead of base_link; info: attributes of camera_info.
    """

    def write(
        *leave_out: str,
        camera: Camera = CAMERA,
        tf_from: int = 0,
        blind: bool = False,
        image: Callable[[int, int], Any] = numbered,
        images: str = "/front/image_raw/compressed",
        optical: np.ndarray = OPTICAL,
        pan_until: int | None = None,
        info: dict[str, Any] | None = None,
    ) -> Path:
        path = tmp_path / "drive"
        with BagWriter(path, overwrite=True) as bag:

            def put(topic: str, message, stamp: int) -> None:
                if topic not in leave_out:
                    bag.write(topic, message, stamp + S)  # recorded a second late: only headers may count

            parent = "base_link" if pan_until is None else "pan"
            static = [("base_link", "lidar", START, LIDAR), (parent, "front_optical", START, optical)]
            put("/tf_static", messages.tf_message(static), START)
            for tick in range(tf_from, 56):
                stamp = START + tick * S // 50
                edges = [("odom", "base_link", stamp, base(stamp))]
                edges += [("base_link", "pan", stamp, np.eye(4))] if tick < (pan_until or 0) else []
                put("/tf", messages.tf_message(edges), stamp)
            for number in range(20):
                stamp = START + 10_000_000 + number * S // 20
                put(images, image(number, stamp), stamp)
                calibration = messages.camera_info(camera, stamp, "front_optical")
                for name, value in (info or {}).items():
                    setattr(calibration, name, value)
                put("/front/camera_info", calibration, stamp)
            for number in range(10):
                stamp = START + number * S // 10
                columns = scan(stamp)
                columns["x"][0] = np.nan if blind else columns["x"][0]
                put("/points", messages.point_cloud(columns, stamp, "lidar"), stamp)
                truth = {"label": np.arange(11, dtype=np.uint16) + number, "instance": np.zeros(11, np.uint16)}
                put("/ground_truth/points", messages.point_cloud(truth, stamp, "lidar"), stamp)
        return path

    return write


def test_points_lie_where_they_are_in_the_world(record: Callable[..., Path]) -> None:
    source = Bag(record(), sweeps=3, intensity_scale=1 / 255)
    assert len(source) == 10 and source.sequences == ("drive",)
    frame = source[5]
    assert [sweep.scan.stamp for sweep in frame.sweeps] == [START + n * S // 10 for n in (5, 4, 3)]
    for sweep in frame.sweeps:
        world = transform(sweep.T_world_lidar, sweep.scan.xyz.astype(np.float64))
        np.testing.assert_allclose(world, np.tile(WALL, (11, 1)), atol=1e-4)
    np.testing.assert_allclose(frame.sweeps[0].scan.intensity, 0.2)
    assert len(source[0].sweeps) == 1 and len(source[1].sweeps) == 2
    source.preparation = dataclasses.replace(source.preparation, max_sweep_age=0.1)
    assert [sweep.scan.stamp for sweep in source[5].sweeps] == [START + n * S // 10 for n in (5, 4)], "none is older"


def test_without_deskew_points_stay_as_they_came(record: Callable[..., Path]) -> None:
    frame = Bag(record(), deskew=False)[0]
    np.testing.assert_allclose(frame.sweeps[0].scan.xyz[-1], [WALL[0] - 1.0, 3.0, -1.0], atol=1e-4)


def test_image_nearest_to_the_middle_of_the_scan_at_its_own_pose(record: Callable[..., Path]) -> None:
    (view,) = Bag(record())[3].views
    # Scan 3 lasts from 0.3 to 0.4 s; images are at 0.01 + n / 20 s: number 7, at 0.36 s, is the nearest to 0.35 s.
    assert view.image.shape == (30, 40, 3) and (view.image == 7).all()
    assert view.stamp == START + 360_000_000
    np.testing.assert_allclose(view.T_world_camera, base(view.stamp) @ OPTICAL, atol=1e-9)
    assert view.camera.name == "front"
    np.testing.assert_array_equal(view.camera.K, CAMERA.K)


def test_projection_through_all_of_it(record: Callable[..., Path]) -> None:
    """WALL, seen by LiDAR and camera from two places at two times, falls on the pixel worked out by hand."""
    pairs = associate(Bag(record())[3])
    assert len(pairs) == 11
    x, y, z = WALL[0] - 3.6 - 0.5, WALL[1], WALL[2]
    np.testing.assert_allclose(pairs.uv, [[19.5 - 30 * y / x, 14.5 - 30 * z / x]] * 11, atol=1e-3)


def test_labels_follow_dropped_points(record: Callable[..., Path], tmp_path: Path) -> None:
    labels = tmp_path / "labels.yaml"
    labels.write_text(
        "name: two\nclasses:\n  low: {prompts: [low], ids: [4, 5]}\n  high: {prompts: [high], ids: [14]}\n"
    )
    whole, blind = Bag(record(), labelset=str(labels))[4], Bag(record(blind=True), labelset=str(labels))[4]
    np.testing.assert_array_equal(whole.labels, [0, 0] + [UNLABELLED] * 8 + [1])
    np.testing.assert_array_equal(blind.labels, [0] + [UNLABELLED] * 8 + [1])


def test_a_stretch_without_a_scan_is_refused(record: Callable[..., Path]) -> None:
    with pytest.raises(DatasetError, match=r"stretch is \(0.0, 0.001\), which holds none of \d+ scans"):
        Bag(record(), stretch=(0.0, 0.001), images=False)


def test_every_and_images_off(record: Callable[..., Path]) -> None:
    source = Bag(record(), every=4, sweeps=2, images=False)
    assert len(source) == 3
    assert [frame.sweeps[0].scan.stamp for frame in source] == [START + n * S // 10 for n in (0, 4, 8)]
    assert source[1].sweeps[1].scan.stamp == START + 3 * S // 10, "the scan before, not the key frame before"
    assert source[1].views == ()


def test_scans_before_the_first_transform_are_left_out(record: Callable[..., Path]) -> None:
    source = Bag(record(tf_from=20), sweeps=5)  # TF from 0.4 s on, with 0.05 s of tolerance
    assert len(source) == 6
    assert source[0].sweeps[0].scan.stamp == START + 4 * S // 10


def test_workers_of_a_data_loader_may_have_it(record: Callable[..., Path]) -> None:
    source = Bag(record())
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[2].sweeps[0].scan.xyz, source[2].sweeps[0].scan.xyz)


@pytest.mark.parametrize(
    ("leave_out", "cause"),
    [
        (["/tf"], "no scan has a pose in 'odom'"),
        (["/tf_static"], "frame 'front_optical' is not in the bag's TF"),
        (["/points"], "has no point cloud"),
        (["/ground_truth/points"], "labels are asked for"),
    ],
)
def test_what_is_missing_is_named(record: Callable[..., Path], leave_out: list[str], cause: str) -> None:
    with pytest.raises(DatasetError, match=cause) as raised:
        Bag(record(*leave_out), labelset="street")
    assert isinstance(raised.value, NoPosesError) == (leave_out[0] in ("/tf", "/tf_static"))


def test_rectified_images_are_seen_by_p_in_the_frame_turned_by_r(record: Callable[..., Path]) -> None:
    turn = np.array([[np.cos(0.1), 0, -np.sin(0.1)], [0, 1, 0], [np.sin(0.1), 0, np.cos(0.1)]])
    info = {"r": turn.reshape(-1), "p": np.array([20.0, 0, 21, 0, 0, 22, 13, 0, 0, 0, 1, 0]), "d": np.full(5, 0.1)}
    (view,) = Bag(record(images="/front/image_rect/compressed", info=info))[3].views
    np.testing.assert_array_equal(view.camera.K, [[20, 0, 21], [0, 22, 13], [0, 0, 1]])
    assert not len(view.camera.distortion)
    expected = base(view.stamp) @ OPTICAL
    expected[:3, :3] = expected[:3, :3] @ turn.T
    np.testing.assert_allclose(view.T_world_camera, expected, atol=1e-9)


def test_camera_whose_frame_has_body_axes_is_turned_when_told(record: Callable[..., Path]) -> None:
    body = np.eye(4)
    body[0, 3] = 0.5
    turned = Bag(record(optical=body), camera_axes="body")[3]
    straight = Bag(record())[3]
    np.testing.assert_allclose(turned.views[0].T_world_camera, straight.views[0].T_world_camera, atol=1e-12)


def test_levels_of_a_sixteen_bit_camera_are_those_of_the_whole_bag(
    record: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Image n holds 200 n: 3800 of 12 bits in the last one, so 200 n becomes 200 n / 16 in each."""

    def image(number: int, stamp: int) -> Any:
        data = np.full((30, 40), 200 * number, "<u2").view(np.uint8).reshape(-1)
        values = {"height": 30, "width": 40, "encoding": "mono16", "is_bigendian": 0, "step": 80, "data": data}
        return messages.build("sensor_msgs/msg/Image", header=messages.header(stamp, "front_optical"), **values)

    source = Bag(record(image=image, images="/front/image_raw"))
    assert "levels 0 to 4095 become black to white" in caplog.text
    for index, number in ((0, 1), (3, 7), (8, 17)):
        (view,) = source[index].views
        assert (view.image == 200 * number // 16).all()


def test_a_bare_png_of_sixteen_bits_has_the_levels_of_the_whole_bag(record: Callable[..., Path]) -> None:
    def image(number: int, stamp: int) -> Any:
        data = cv2.imencode(".png", np.full((30, 40), 200 * number, np.uint16))[1].reshape(-1)
        return messages.compressed_image(data, "png", stamp, "front_optical")

    source = Bag(record(image=image))
    assert [int(source[index].views[0].image[0, 0, 0]) for index in (0, 3, 8)] == [200 // 16, 1400 // 16, 3400 // 16]


def test_clouds_without_points_cost_their_frames_only(tmp_path: Path, record: Callable[..., Path]) -> None:
    """Drivers send empty clouds while they start."""
    with open_bag(record()) as bag, BagWriter(tmp_path / "empty") as out:
        for message in bag.messages():
            decoded = message.decode()
            if message.topic == "/points" and decoded.header.stamp.nanosec in (0, 400_000_000):
                decoded.width, decoded.row_step, decoded.data = 0, 0, np.zeros(0, np.uint8)
            out.write(message.topic, decoded, message.stamp)
    source = Bag(tmp_path / "empty")
    assert len(source) == 10 and len(source[1].sweeps[0].scan) == 11
    for number in (0, 4):
        with pytest.raises(PointCloudError, match="The cloud is empty"):
            source[number]
    assert "11 points in frame 'lidar'" in str(info(tmp_path / "empty"))


def test_a_bag_without_the_fixed_frame_is_told_which_there_is(record: Callable[..., Path]) -> None:
    with pytest.raises(NoPosesError, match=r"no scan has a pose in 'map', which TF lacks.*fixed_frame.* 'odom'"):
        Bag(record(), fixed_frame="map")
    with pytest.raises(DatasetError, match="Nothing in TF moves"):
        Bag(record("/tf"))


def test_damaged_images_and_those_of_another_size_are_left_out_and_counted(record: Callable[..., Path]) -> None:
    def image(number: int, stamp: int) -> Any:
        message = numbered(number, stamp, *((40, 30) if number < 10 else (80, 60)))
        message.data = message.data[:20] if number == 15 else message.data
        return message

    source = Bag(record(image=image))
    assert len(source[3].views) == 1 and source[6].views == () and source[7].views == ()  # images 13 and 15
    assert source.left_out == {"images of /front whose size changed": 1, "damaged images of /front": 1}


def test_images_without_a_pose_are_left_out_and_counted(record: Callable[..., Path]) -> None:
    source = Bag(record(pan_until=20))  # the camera's mount is known up to 0.4 s, with 0.05 s of tolerance
    assert len(source[3].views) == 1 and source[4].views == () and source[5].views == ()
    assert source.left_out == {"images of /front without a pose": 2}


def test_a_camera_that_sees_no_point_is_told(record: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    Bag(record())
    assert "sees no point" not in caplog.text
    backwards = OPTICAL @ np.diag([-1.0, 1, -1, 1])
    Bag(record(optical=backwards))
    assert "camera /front sees no point of the first scan" in caplog.text and "'front_optical'" in caplog.text


def test_camera_without_calibration(record: Callable[..., Path]) -> None:
    path = record(camera=Camera("front", 40, 30, np.zeros((3, 3))))
    with pytest.raises(DatasetError, match=r"/front: Camera 'front' is not calibrated"):
        Bag(path)


def test_calibration_of_another_resolution(record: Callable[..., Path]) -> None:
    """Of the same proportions: scaled, centres of pixels kept; of others: refused."""
    (view,) = Bag(record(camera=resized(CAMERA, 80, 60)))[3].views
    np.testing.assert_allclose(view.camera.K, CAMERA.K)
    with pytest.raises(DatasetError, match="images are 40 x 30, its camera_info says 80 x 50"):
        Bag(record(camera=Camera("front", 80, 50, CAMERA.K)))


def test_images_without_camera_info_are_no_camera_unless_asked_for(record: Callable[..., Path]) -> None:
    path = record("/front/camera_info")
    assert Bag(path)[3].views == ()
    with pytest.raises(DatasetError, match="no camera_info beside /front/image_raw"):
        Bag(path, cameras=["/front"])


def test_several_clouds_need_a_name(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for topic in ("/left/points", "/right/points"):
            bag.write(topic, messages.point_cloud(scan(START), START, "lidar"), START)
        bag.write("/tf_static", messages.tf_message([("odom", "lidar", 0, LIDAR)]), START)
    with pytest.raises(DatasetError, match="/left/points, /right/points"):
        Bag(tmp_path / "bag")
    assert len(Bag(tmp_path / "bag", points="/left/points", deskew=False)) == 1


def test_semantickitti_as_a_bag_equals_semantickitti(tmp_path: Path) -> None:
    """The same sequence through the data set's own reader and through a bag: same points, labels and pixels."""
    if (data := data_dir()) is None:
        pytest.skip("no shared test data")
    path = from_semantickitti(data / "semantickitti", "09", tmp_path / "bag")
    bag = open_dataset("bag", path, labelset="semantickitti19", sweeps=2)
    kitti = open_dataset("semantickitti", data / "semantickitti", sequences=["09"], sweeps=2)
    assert len(bag) == len(kitti) == 5
    one, other = bag[3], kitti[3]
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.views[0].image, other.views[0].image)
    ours, theirs = associate(one), associate(other)
    both = np.intersect1d(ours.point, theirs.point)
    assert len(both) > 0.999 * max(len(np.unique(ours.point)), len(np.unique(theirs.point)))
    rows = [np.searchsorted(pairs.point, both) for pairs in (ours, theirs)]
    np.testing.assert_allclose(ours.uv[rows[0]], theirs.uv[rows[1]], atol=0.05)
