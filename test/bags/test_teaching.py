"""Which scans can teach, by stamps as they come: late images, cameras that stop, bags without any."""

from __future__ import annotations

import numpy as np

from ov3d_perception.bags import messages
from ov3d_perception.bags.teaching import Teaching
from ov3d_perception.bags.typestore import typestore

S = 1_000_000_000
CLOUD, IMAGE = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/CompressedImage"


def cloud(stamp: float) -> tuple[str, str, bytes]:
    message = messages.point_cloud({"x": np.zeros(1, np.float32)}, 1000 * S + round(stamp * S), "lidar")
    return "/points", CLOUD, bytes(typestore().serialize_cdr(message, CLOUD))


def image(stamp: float, topic: str = "/front/image") -> tuple[str, str, bytes]:
    message = messages.compressed_image(np.zeros(3, np.uint8), "jpeg", 1000 * S + round(stamp * S), "front")
    return topic, IMAGE, bytes(typestore().serialize_cdr(message, IMAGE))


def test_scans_are_paired_though_images_come_late() -> None:
    teaching = Teaching()
    for number in range(10):
        teaching.add(*cloud(number / 10))
        if number >= 3:
            teaching.add(*image(number / 10 - 0.3 + 0.05))  # 0.25 s late
    assert teaching.judged == teaching.paired == 4  # those of half a second ago
    teaching.finish()
    assert (teaching.scans, teaching.judged, teaching.paired) == (10, 10, 8)
    assert str(teaching).startswith("8 of 10 scans have an image")


def test_a_camera_that_stops_does_not_hide_the_others() -> None:
    teaching = Teaching()
    for number in range(400):
        teaching.add(*image(number / 10, "/left/image"))
        if number < 5:
            teaching.add(*image(number / 10, "/right/image"))
        teaching.add(*cloud(number / 10))
    teaching.finish()
    assert teaching.paired == 400


def test_without_images_nothing_can_teach() -> None:
    teaching = Teaching()
    for number in range(20):
        teaching.add(*cloud(number / 10))
        teaching.add("/tf", "tf2_msgs/msg/TFMessage", b"")
    teaching.finish()
    assert (teaching.judged, teaching.paired) == (20, 0)
