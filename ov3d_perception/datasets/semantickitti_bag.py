"""A SemanticKITTI sequence as a standard bag: points, colour camera, calibration, poses, ground truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ov3d_perception.bags import messages
from ov3d_perception.bags.images import encode_jpeg
from ov3d_perception.bags.pointcloud2 import SECOND
from ov3d_perception.bags.writer import BagWriter, whole_bag
from ov3d_perception.datasets.kitti_drive import ADVICE, KittiDrive, open_drive
from ov3d_perception.datasets.source import require
from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.poses import invert
from ov3d_perception.types import Camera

LIDAR_HEIGHT = 1.73  # metres above the road: KITTI's sensor set-up
CAMERA = "cam_2"
EPOCH = 1_317_000_000 * SECOND  # the benchmark starts each sequence at 0, and ROS takes 0 for "no stamp"


def from_semantickitti(
    root: str | Path, sequence: str, out: str | Path, *, image_format: str = "png", overwrite: bool = False
) -> Path:
    """Write the bag ``out`` and return its path.

    Topics: /points (x y z intensity), /ground_truth/points (label = raw SemanticKITTI id, instance; row i belongs to
    point i), /cam_2/image_raw/compressed, /cam_2/camera_info, /tf (odom -> base_link), /tf_static (base_link -> lidar,
    cam_2_optical), /odom. base_link lies under the LiDAR on the road, odom where it was first; scans of the benchmark
    are motion-compensated already.
    image_format: "png" copies the files, "jpeg" (quality 95) makes them smaller.
    Raises DatasetError listing what is missing.
    """
    if image_format not in ("png", "jpeg"):
        raise DatasetError(f"Image format '{image_format}' is unknown", "Use png or jpeg")
    problems: list[str] = []
    drive = open_drive(Path(root), sequence, problems, labels=False)
    require(Path(root), problems, ADVICE)
    assert drive is not None
    T_base_lidar = np.eye(4)
    T_base_lidar[2, 3] = LIDAR_HEIGHT
    T_base_camera = T_base_lidar @ invert(drive.T_camera_lidar)
    with whole_bag(out, overwrite) as bag:
        start = EPOCH + drive.stamp(drive.frames[0])
        static = [
            ("base_link", "lidar", start, T_base_lidar),
            ("base_link", f"{CAMERA}_optical", start, T_base_camera),
            ("map", "odom", start, np.eye(4)),
        ]
        bag.write("/tf_static", messages.tf_message(static), start)
        for frame in drive.frames:
            stamp = EPOCH + drive.stamp(frame)
            pose = T_base_lidar @ drive.T_world_lidar[frame] @ invert(T_base_lidar)
            bag.write("/tf", messages.tf_message([("odom", "base_link", stamp, pose)]), stamp)
            bag.write("/odom", messages.odometry(pose, stamp), stamp)
            _write_camera(bag, drive, frame, stamp, image_format)
            _write_points(bag, drive, frame, stamp)
    return Path(out)


def _write_points(bag: BagWriter, drive: KittiDrive, frame: int, stamp: int) -> None:
    columns = dict(zip(("x", "y", "z", "intensity"), drive.points(frame).T, strict=True))
    bag.write("/points", messages.point_cloud(columns, stamp, "lidar"), stamp)
    if drive.label_path(frame).is_file():
        packed = drive.labels(frame)
        truth = {"label": (packed & 0xFFFF).astype(np.uint16), "instance": (packed >> 16).astype(np.uint16)}
        bag.write("/ground_truth/points", messages.point_cloud(truth, stamp, "lidar"), stamp)


def _write_camera(bag: BagWriter, drive: KittiDrive, frame: int, stamp: int, image_format: str) -> None:
    path = drive.image_path(frame)
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"{path} does not decode", "Download the sequence anew")
    if image_format == "jpeg":
        data = encode_jpeg(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), quality=95)
    optical = f"{CAMERA}_optical"
    camera = Camera(CAMERA, image.shape[1], image.shape[0], drive.K)
    bag.write(f"/{CAMERA}/image_raw/compressed", messages.compressed_image(data, image_format, stamp, optical), stamp)
    bag.write(f"/{CAMERA}/camera_info", messages.camera_info(camera, stamp, optical), stamp)
