"""A small street of boxes, recorded by a LiDAR and a camera, with one fault at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ov3d_perception.bags import messages
from ov3d_perception.bags.images import encode_jpeg
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.types import Camera

S = 1_000_000_000
START = 1_000 * S
SPEED = 5.0  # m/s along x
SCANS = 24
OPTICAL = np.array([[0.0, 0, 1, 0.2], [-1, 0, 0, 0], [0, -1, 0, 1.3], [0, 0, 0, 1]])
LIDAR = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1]])
CAMERA = Camera("front", 480, 240, np.array([[300.0, 0, 239.5], [0, 300.0, 119.5], [0, 0, 1]]))


def base(seconds: float) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = SPEED * seconds
    return T


def boxes() -> np.ndarray:
    """(n, 2, 3): low and high corners of posts, cars and huts along a road, from 5 m ahead to 90 m."""
    rng = np.random.default_rng(3)
    found = []
    for x in np.arange(6.0, 90.0, 3.0):
        for side in (-1, 1):
            size = [(0.3, 0.3, 3.0), (3.0, 1.8, 1.6), (2.5, 2.5, 4.0)][rng.integers(3)]
            centre = np.array([x + rng.uniform(-1, 1), side * rng.uniform(3.5, 9.0), 0.0])
            half = np.array([size[0], size[1], 0]) / 2
            found.append([centre - half, centre + half + [0, 0, size[2]]])
    return np.array(found)


BOXES = boxes()
SHADES = np.random.default_rng(4).integers(20, 235, (len(BOXES), 3))


def corners(box: np.ndarray) -> np.ndarray:
    return np.array([[box[i][0], box[j][1], box[k][2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])


def scan(seconds: float) -> dict[str, np.ndarray]:
    """32 rings of 900 points: what a LiDAR that stands still would see."""
    origin = (base(seconds) @ LIDAR)[:3, 3]
    turns, elevation = np.linspace(-np.pi, np.pi, 900, endpoint=False), np.radians(np.linspace(-22, 9, 32))
    azimuth, elevation = np.meshgrid(turns, elevation)
    level = np.cos(elevation)
    rays = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(rays[..., 2] < 0, -origin[2] / rays[..., 2], np.inf)
        for box in BOXES:
            around = corners(box) - origin
            seen = np.arctan2(around[:, 1], around[:, 0])
            columns = (turns > seen.min() - 0.02) & (turns < seen.max() + 0.02)
            a, b = ((corner - origin) / rays[:, columns] for corner in box)
            near, far = np.minimum(a, b).max(axis=2), np.maximum(a, b).min(axis=2)
            hit = (near <= far) & (near > 0)
            distance[:, columns] = np.where(hit, np.minimum(distance[:, columns], near), distance[:, columns])
    kept = distance < 70
    xyz = (rays[kept] * distance[kept, None]).astype(np.float32)
    ring = np.repeat(np.arange(32, dtype=np.uint16), 900)[kept.reshape(-1)]
    fields = {name: xyz[:, axis] for axis, name in enumerate("xyz")}
    return fields | {"intensity": np.full(len(xyz), 40, np.float32), "ring": ring}


def picture(seconds: float) -> np.ndarray:
    """What the camera sees: a shade a box, a grey road, a bright sky. Far boxes are painted first."""
    T_camera_world = np.linalg.inv(base(seconds) @ OPTICAL)
    image = np.full((CAMERA.height, CAMERA.width, 3), 245, np.uint8)
    image[int(CAMERA.K[1, 2]) + 1 :] = 120
    seen = [corners(box) @ T_camera_world[:3, :3].T + T_camera_world[:3, 3] for box in BOXES]
    for number in sorted(range(len(BOXES)), key=lambda n: -float(np.linalg.norm(seen[n].mean(axis=0)))):
        if seen[number][:, 2].min() > 0.5:
            uv = seen[number] @ CAMERA.K.T
            hull = cv2.convexHull(np.round(16 * uv[:, :2] / uv[:, 2:]).astype(np.int32))
            cv2.fillConvexPoly(image, hull, SHADES[number].tolist(), cv2.LINE_AA, 4)
    noise = np.random.default_rng(int(seconds * 1000)).normal(0, 2, image.shape)
    return np.asarray(cv2.GaussianBlur(np.clip(image + noise, 0, 255), (0, 0), 0.7), np.uint8)


@dataclass
class Drive:
    """What was measured, once; every bag is written from it."""

    scans: list[dict[str, np.ndarray]] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def measured(cls) -> Drive:
        seconds = [number / 10 for number in range(SCANS)]
        return cls([scan(at) for at in seconds], [picture(at) for at in seconds])


def write(
    path: Path,
    drive: Drive,
    *,
    skip: Callable[[str, int], bool] = lambda topic, number: False,
    change: Callable[[str, int, Any], Any] = lambda topic, number, message: message,
    late: Callable[[str, int], int] = lambda topic, number: 0,
    before: Callable[[BagWriter], None] = lambda bag: None,
    mount: np.ndarray = OPTICAL,
    lag_s: float = 0.0,
) -> Path:
    """A bag of the drive. skip: leaves messages out; change: alters them; late: ns by which one arrives later;
    before: writes what comes first. mount: the camera's place as TF tells it; lag_s: by which the images' stamps are
    late.
    """
    with BagWriter(path) as bag:
        before(bag)

        def put(topic: str, number: int, message: Any, received: int) -> None:
            if not skip(topic, number):
                bag.write(topic, change(topic, number, message), received + late(topic, number))

        edges = [("base_link", "lidar", START, LIDAR), ("base_link", "front_optical", START, mount)]
        put("/tf_static", 0, messages.tf_message(edges), START)
        for number in range(SCANS):
            stamp = START + number * S // 10
            for tick in range(5):
                at = stamp + tick * S // 50
                T = base((at - START) / S)
                put("/tf", 5 * number + tick, messages.tf_message([("odom", "base_link", at, T)]), at + 1_000_000)
            taken = stamp + round(lag_s * S)
            image = messages.compressed_image(encode_jpeg(drive.pictures[number]), "jpeg", taken, "front_optical")
            put("/front/image_raw/compressed", number, image, stamp + 20_000_000 + number % 3 * 1_000_000)
            info = messages.camera_info(CAMERA, taken, "front_optical")
            put("/front/camera_info", number, info, stamp + 20_000_000)
            cloud = messages.point_cloud(drive.scans[number], stamp, "lidar")
            put("/points", number, cloud, stamp + 30_000_000 + number % 3 * 1_000_000)
    return path
