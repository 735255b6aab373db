"""Which topics of a bag become cameras, and where these look: small bags that robots record."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.cameras import OPTICAL_IN_BODY, Found, find_cameras
from ov3d_perception.bags.images import encode_png
from ov3d_perception.bags.info import info
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.types import Camera

K = np.array([[30.0, 0, 19.5], [0, 30.0, 14.5], [0, 0, 1]])
D = np.array([-0.3, 0.1, 0, 0, 0.01])
P = np.array([[25.0, 0, 18, 0], [0, 26.0, 15, 0], [0, 0, 1, 0]])
OPTICAL = OPTICAL_IN_BODY.copy()
OPTICAL[0, 3] = 0.5
STATIC = [("base_link", "lidar", 0, np.eye(4)), ("base_link", "optical", 0, OPTICAL)]


def picture(frame: str = "optical", encoding: str = "rgb8", size: tuple[int, int] = (40, 30)) -> Any:
    """A raw image of zeros in any encoding."""
    width, height = size
    step = {"rgb8": 3, "mono8": 1, "mono16": 2, "16UC1": 2, "32FC1": 4, "bayer_rggb8": 1}[encoding] * width
    values = {"height": height, "width": width, "encoding": encoding, "is_bigendian": 0, "step": step}
    data = np.zeros(height * step, np.uint8)
    return messages.build("sensor_msgs/msg/Image", header=messages.header(0, frame), data=data, **values)


def packed(format: str = "png") -> Any:
    return messages.compressed_image(encode_png(np.zeros((30, 40, 3), np.uint8)), format, 0, "optical")


def calibration(frame: str = "optical", **other: Any) -> Any:
    message = messages.camera_info(Camera("c", 40, 30, K, "pinhole", D), 0, frame)
    message.p = P.reshape(-1)
    for name, value in other.items():
        setattr(message, name, value)
    return message


Search = Callable[..., Found]


@pytest.fixture
def found(tmp_path: Path) -> Search:
    """found(topics=messages, static=edges, **options of find_cameras)"""

    def search(topics: dict[str, Any], static: Any = STATIC, **options: Any) -> Found:
        path = tmp_path / "bag"
        with BagWriter(path, overwrite=True) as bag:
            for topic, message in topics.items():
                bag.write(topic, message, 0)
            bag.write("/tf_static", messages.tf_message(static), 0)
        with open_bag(path) as opened:
            return find_cameras(opened, opened.transforms(), lidar_frame="lidar", **options)

    return search


def taken(found: Found) -> list[str]:
    assert not found.problems
    return [camera.images for camera in found.cameras]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["image_raw"], "image_raw"),
        (["picture"], "picture"),
        (["image_rect_color"], "image_rect_color"),
        (["imageRectColor"], "imageRectColor"),
        (["image_undist"], "image_undist"),
        (["image_raw", "image_rect"], "image_raw"),
        (["image_rect", "image_rect_color", "image_color", "image"], "image_color"),
        (["image_raw/compressed", "image_rect_color/compressed"], "image_raw/compressed"),
        (["image_raw", "debug_image", "image_segmentation"], "image_raw"),
        (["image_raw", "what_a_network_saw"], "image_raw"),
        (["image_rect_color", "depth", "image_depth"], "image_rect_color"),
        (["image_raw", "image_raw/compressed"], "image_raw/compressed"),
    ],
)
def test_one_image_topic_of_a_namespace_is_taken(found: Search, names: list[str], expected: str) -> None:
    topics = {f"/front/{name}": packed() if name.endswith("/compressed") else picture() for name in names}
    result = found(topics | {"/front/camera_info": calibration()})
    assert taken(result) == [f"/front/{expected}"]
    (camera,) = result.cameras
    rectified = "rect" in expected.lower() or "undist" in expected
    np.testing.assert_array_equal(camera.camera.K, P[:, :3] if rectified else K)
    np.testing.assert_array_equal(camera.camera.distortion, [] if rectified else D)
    bases = {f"/front/{name.removesuffix('/compressed')}" for name in names}
    assert set(result.left_out) == bases - {f"/front/{expected.removesuffix('/compressed')}"}, "all others are told"
    assert "image topics" in str(camera) or len(bases - set(result.left_out)) == 1


def test_colour_before_grey(found: Search) -> None:
    topics = {"/front/image_raw": picture(encoding="mono8"), "/front/image_rect_color": picture()}
    result = found(topics | {"/front/camera_info": calibration()})
    assert taken(result) == ["/front/image_rect_color"]
    assert "colour, rectified: P" in str(result.cameras[0])
    mosaic = found(topics | {"/front/image_raw": picture(encoding="bayer_rggb8"), "/front/camera_info": calibration()})
    assert taken(mosaic) == ["/front/image_raw"], "a Bayer mosaic is in colour"


def test_what_the_names_do_not_tell_is_refused_until_named(found: Search) -> None:
    topics = {f"/front/image_{side}": picture() for side in ("left", "right")} | {"/front/camera_info": calibration()}
    (problem,) = found(topics).problems
    assert "Which of /front/image_left, /front/image_right" in problem and "cameras=[/front/image_left]" in problem
    assert taken(found(topics, wanted=["/front/image_right"])) == ["/front/image_right"]


def test_a_named_topic_is_taken_whatever_the_namespace_has(found: Search) -> None:
    topics = {"/front/image_raw": picture(), "/front/image_rect": picture(), "/front/debug_image": picture()}
    topics |= {"/front/camera_info": calibration()}
    assert taken(found(topics, wanted=["/front/image_rect"])) == ["/front/image_rect"]
    assert taken(found(topics, wanted=["/front/debug_image"])) == ["/front/debug_image"]
    assert taken(found(topics, wanted=["/front"])) == ["/front/image_raw"]
    assert taken(found(topics, wanted=["front/"])) == ["/front/image_raw"]
    assert taken(found(topics, wanted=["front/image_rect"])) == ["/front/image_rect"]
    at_the_root = {"/image_raw": picture(), "/camera_info": calibration()}  # v4l2_camera without a namespace
    assert taken(found(at_the_root)) == taken(found(at_the_root, wanted=["/"])) == ["/image_raw"]
    topics |= {"/depth/image_raw": picture(encoding="16UC1"), "/depth/camera_info": calibration()}
    for name, words in (
        (
            "/rear",
            "No pictures there (no images). Name one of those that the bag has: /front/image_raw, /front/image_rect",
        ),
        ("/depth", "No pictures there (/depth/image_raw: depth (16UC1))"),
        ("/depth/image_raw", "'16UC1' holds depths"),
    ):
        assert words in found(topics, wanted=[name]).problems[0]


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("/depth/image_rect_raw", picture(encoding="16UC1")),
        ("/depth/image_rect_raw", picture(encoding="32FC1")),
        ("/camera/aligned_depth_to_color/image_raw", picture(encoding="16UC1")),
        ("/camera/stereo/image_raw/compressedDepth", packed("32FC1; compressedDepth png")),
        ("/camera/x/image_raw/compressed", packed("16UC1; png compressed ")),
        ("/camera/depth/image", picture()),  # in false colours
        ("/camera/disparity/image", picture(encoding="mono8")),
        ("/camera/depth_registered/image_raw", picture(encoding="mono16")),
        ("/camera/confidence/image_rect_raw", picture(encoding="mono8")),
        ("/sim/semantic_segmentation/image", picture()),
    ],
)
def test_depth_and_derived_images_never_teach(found: Search, topic: str, message: Any) -> None:
    base = topic.removesuffix("/compressedDepth").removesuffix("/compressed")
    topics = {"/front/image_raw": picture(), "/front/camera_info": calibration()}
    result = found(topics | {topic: message, base.rpartition("/")[0] + "/camera_info": calibration()})
    assert taken(result) == ["/front/image_raw"]
    assert list(result.left_out) == [base]


def test_a_colour_camera_called_depth_camera_teaches(found: Search) -> None:
    topics = {"/depth_camera/image_raw": picture(), "/depth_camera/camera_info": calibration()}
    assert taken(found(topics)) == ["/depth_camera/image_raw"]


def test_images_and_calibrations_without_each_other_are_told(found: Search) -> None:
    cloud = messages.point_cloud({"x": np.zeros(1, np.float32)}, 0, "lidar")
    result = found({"/a/image_raw": picture(), "/b/camera_info": calibration(), "/b/image_raw/points": cloud})
    assert not result.cameras and not result.problems
    assert result.left_out["/a/image_raw"] == "no camera_info beside it"
    assert "/b/image_raw/points (sensor_msgs/msg/PointCloud2)" in result.left_out["/b/camera_info"]
    assert "no camera_info beside /a/image_raw" in found({"/a/image_raw": picture()}, wanted=["/a"]).problems[0]


def test_rectified_images_with_a_calibration_of_their_own(found: Search) -> None:
    """isaac_ros' rectifier sends camera_info_rect beside the driver's camera_info."""
    own = calibration(d=np.zeros(5), k=P[:, :3].reshape(-1))
    topics = {"/front/image_rect": picture(), "/front/camera_info": calibration(), "/front/camera_info_rect": own}
    (camera,) = found(topics).cameras
    assert camera.info == "/front/camera_info_rect"


def test_the_topic_that_can_be_read_is_taken(found: Search) -> None:
    topics = {"/front/image_raw": picture(), "/front/camera_info": calibration()}
    result = found(
        topics | {"/front/image_raw/compressed": messages.compressed_image(np.ones(9, np.uint8), "h264", 0, "")}
    )
    assert taken(result) == ["/front/image_raw"]


# -- where a camera looks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_info", "of_image", "expected", "note"),
    [
        ("optical", "optical", "optical", ""),
        ("/optical", "/optical", "optical", ""),
        ("", "optical", "optical", "camera_info '', the images 'optical'; 'optical' is taken"),
        ("typo", "optical", "optical", "'optical' is taken"),
        ("optical", "", "optical", "'optical' is taken"),
        ("camera_link", "optical", "optical", "camera_info 'camera_link', the images 'optical'; 'optical' is taken"),
    ],
)
def test_frames_that_can_be_healed(found: Search, of_info: str, of_image: str, expected: str, note: str) -> None:
    tilted = np.diag([-1.0, -1, 1, 1])  # body axes, and no optical frame that belongs to them
    edges = [*STATIC, ("base_link", "camera_link", 0, tilted)]
    result = found({"/front/image_raw": picture(of_image), "/front/camera_info": calibration(of_info)}, edges)
    taken(result)
    assert result.cameras[0].frame_id == expected
    assert note in " ".join(result.cameras[0].healed) and bool(result.cameras[0].healed) == bool(note)


@pytest.mark.parametrize(
    ("frame", "static", "words"),
    [
        ("", STATIC, ["Neither /front/camera_info nor its images have a frame_id", "driver"]),
        ("camera", STATIC, ["frame 'camera' is not in the bag's TF", "Record /tf_static."]),
        ("robot/optical", STATIC, ["'robot/optical' is not in the bag's TF", "name 'optical' if that is the camera"]),
        (
            "optical",
            [STATIC[0], ("camera_link", "optical", 0, OPTICAL)],
            ["'optical' (/front/camera_info) does not connect to the LiDAR's 'lidar'", "'camera_link'", "base_link"],
        ),
        ("camera_link", [*STATIC, ("base_link", "camera_link", 0, np.eye(4))], ["body axes", "REP 103", "camera_axes"]),
    ],
    ids=["empty", "unknown", "prefix", "unconnected", "body axes"],
)
def test_frames_that_cannot(found: Search, frame: str, static: Any, words: list[str]) -> None:
    result = found({"/front/image_raw": picture(frame), "/front/camera_info": calibration(frame)}, static)
    assert not result.cameras
    for word in words:
        assert word in result.problems[0]


@pytest.mark.parametrize("degrees", [0, 30, 50, 70])
def test_body_axes_are_seen_however_far_the_camera_looks_down(found: Search, degrees: float) -> None:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    down = np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]])
    for axes, problems in ((down, 1), (down @ OPTICAL_IN_BODY, 0)):
        edges = [STATIC[0], ("base_link", "eye", 0, axes)]
        result = found({"/front/image_raw": picture("eye"), "/front/camera_info": calibration("eye")}, edges)
        assert len(result.problems) == problems


def test_body_axes_are_healed_by_the_optical_frame_or_by_the_option(found: Search) -> None:
    link = np.eye(4)
    link[:3, :3] = [[np.cos(0.2), 0, np.sin(0.2)], [0, 1, 0], [-np.sin(0.2), 0, np.cos(0.2)]]  # looks down a little
    edges = [STATIC[0], ("base_link", "camera_link", 0, link)]
    topics = {"/front/image_raw": picture("camera_link"), "/front/camera_info": calibration("camera_link")}
    result = found(topics, [*edges, ("camera_link", "camera_optical", 0, OPTICAL_IN_BODY)])
    assert result.cameras[0].frame_id == "camera_optical" and "REP 103" in result.cameras[0].healed[0]
    turned = found(topics, edges, axes="body").cameras[0]
    assert turned.frame_id == "camera_link"
    np.testing.assert_array_equal(turned.T_frame_camera, OPTICAL_IN_BODY)
    up = found(topics, edges, axes="optical").cameras[0]
    np.testing.assert_array_equal(up.T_frame_camera, np.eye(4))


def test_second_camera_of_a_stereo_pair(found: Search) -> None:
    """Both name the first one's frame, as stereo_image_proc wants it: P[0, 3] = -f b puts the second 0.2 m right."""
    shifted = P.copy()
    shifted[0, 3] = -25 * 0.2
    topics: dict[str, Any] = {f"/{side}/image_rect": picture() for side in ("left", "right")}
    topics |= {"/left/camera_info": calibration(), "/right/camera_info": calibration(p=shifted.reshape(-1))}
    left, right = found(topics).cameras
    np.testing.assert_array_equal(left.T_frame_camera, np.eye(4))
    np.testing.assert_allclose(right.T_frame_camera[:3, 3], [0.2, 0, 0])
    own = found(topics | {"/left/camera_info": calibration("other")}, [*STATIC, ("base_link", "other", 0, OPTICAL)])
    np.testing.assert_array_equal(own.cameras[1].T_frame_camera, np.eye(4)), "as RealSense and ZED: in its own frame"


# -- where a person sees it --------------------------------------------------------------------------------------------


def test_bag_info_tells_cameras_what_is_left_out_and_what_is_wrong(found: Search, tmp_path: Path) -> None:
    points = messages.point_cloud({name: np.ones(3, np.float32) for name in "xyz"}, 0, "lidar")
    topics = {"/points": points, "/a/image_raw": picture(size=(20, 15)), "/a/camera_info": calibration()}
    topics |= {"/b/image_raw": picture("nowhere"), "/b/camera_info": calibration("nowhere")}
    found(topics | {"/c/image_raw": picture(encoding="16UC1"), "/c/camera_info": calibration()})
    said = str(info(tmp_path / "bag"))
    for line in (
        "camera /a: /a/image_raw, 20 x 15, pinhole (5 coefficients), frame optical",
        "  /a: camera_info is of 40 x 30: scaled to the images' 20 x 15",
        "no camera: /c/image_raw: depth (16UC1)",
        "camera not usable: /b: Its frame 'nowhere' is not in the bag's TF",
    ):
        assert line in said


@pytest.mark.parametrize(
    ("later", "change"),
    [
        ({"k": 2 * K.ravel()}, r"camera_info changes in the bag: K is \[30.0.*, then \[60.0"),  # a zoom lens
        ({"d": 0 * D}, "D is"),
        ({"distortion_model": "rational_polynomial"}, r"the lens is plumb_bob \(5\), then rational_polynomial"),
        ({"k": 1.001 * K.ravel()}, ""),  # autofocus
        ({"k": 2 * K.ravel(), "width": 80, "height": 60}, ""),  # images of another size are left out anyway
    ],
)
def test_a_calibration_that_changes_in_the_bag_is_refused(tmp_path: Path, later: dict[str, Any], change: str) -> None:
    camera, problems = camera_of_bag(tmp_path, [{}] * 8 + [later] * 4)
    assert bool(change) == bool(problems) and re.search(change, str(problems))
    if not change:
        np.testing.assert_array_equal(camera.camera.K, K)


def test_images_that_are_empty_at_first_do_not_cost_the_camera(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/tf_static", messages.tf_message(STATIC), 0)
        bag.write("/front/camera_info", calibration(), 0)
        for second in range(4):
            image = messages.compressed_image(np.zeros(0, np.uint8), "jpeg", 0, "optical") if second < 3 else packed()
            bag.write("/front/image_raw/compressed", image, second)
    with open_bag(tmp_path / "bag") as opened:
        assert len(find_cameras(opened, opened.transforms(), lidar_frame="lidar").cameras) == 1


def test_a_calibration_that_comes_late_is_taken(tmp_path: Path) -> None:
    camera, _ = camera_of_bag(tmp_path, [{"k": np.zeros(9)}] * 3 + [{}] * 9)
    np.testing.assert_array_equal(camera.camera.K, K)
    assert "begins without a calibration" in camera.healed[0]
    _, problems = camera_of_bag(tmp_path, [{"k": np.zeros(9)}] * 12)
    assert "not calibrated" in problems[0]


def camera_of_bag(tmp_path: Path, calibrations: list[dict[str, Any]]) -> tuple[Any, list[str]]:
    """The camera of a bag with one camera_info a second, and what keeps it from being used."""
    with BagWriter(tmp_path / "bag", overwrite=True) as bag:
        bag.write("/tf_static", messages.tf_message(STATIC), 0)
        for second, changed in enumerate(calibrations):
            bag.write("/front/image_raw", picture(), second * 10**9)
            bag.write("/front/camera_info", calibration(**changed), second * 10**9)
    with open_bag(tmp_path / "bag") as opened:
        found = find_cameras(opened, opened.transforms(), lidar_frame="lidar")
    return (found.cameras or [None])[0], found.problems
