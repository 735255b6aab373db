"""A simulated drive as a standard rosbag2, with the topics a robot's bag has, and the truth beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ov3d_perception.bags import messages
from ov3d_perception.bags.images import encode_jpeg
from ov3d_perception.bags.pointcloud2 import SECOND
from ov3d_perception.bags.writer import BagWriter, whole_bag
from ov3d_perception.sim.drive import EPOCH, SimFrame, SimulatedDrive

ODOMETRY_HZ = 50


def write_drive(path: str | Path, drive: SimulatedDrive, *, overwrite: bool = False) -> Path:
    """Simulate ``drive`` into the bag ``path`` and return its path.

    Topics: /points (x y z intensity ring time; each point in the sensor frame of its own firing), /ground_truth/points
    (x y z label instance; same stamp and order), /<camera>/image_raw/compressed (JPEG), /<camera>/camera_info,
    /tf (odom -> base_link, 50 Hz), /odom, /tf_static (map -> odom, base_link -> lidar, base_link -> <camera>_optical).
    A message is recorded when a robot would have it: a scan at the end of its revolution, while its header tells the
    start. Raises BagError if the bag exists and not ``overwrite``.
    """
    with whole_bag(path, overwrite) as bag:
        bag.write("/tf_static", messages.tf_message(_static_transforms(drive)), EPOCH)
        ticks = int((len(drive) * drive.stride / drive.rate_hz) * ODOMETRY_HZ) + 2
        stamps = [EPOCH + round(tick / ODOMETRY_HZ * 1e9) for tick in range(ticks)]
        written = 0
        for shot in drive:
            end = shot.stamp + round(1e9 / drive.rate_hz)
            while written < len(stamps) and stamps[written] <= end + SECOND // ODOMETRY_HZ:
                _write_pose(bag, drive, stamps[written])
                written += 1
            _write_pictures(bag, shot)
            _write_points(bag, shot, end)
    return Path(path)


def _static_transforms(drive: SimulatedDrive) -> list[tuple[str, str, int, np.ndarray]]:
    edges = [("map", "odom", EPOCH, np.eye(4)), ("base_link", "lidar", EPOCH, drive.robot.lidar_mount())]
    return edges + [("base_link", f"{m.camera.name}_optical", EPOCH, m.T_base_camera) for m in drive.rig]


def _write_pose(bag: BagWriter, drive: SimulatedDrive, stamp: int) -> None:
    T = drive.base_at(np.array([(stamp - EPOCH) / 1e9]))[0]
    bag.write("/tf", messages.tf_message([("odom", "base_link", stamp, T)]), stamp)
    bag.write("/odom", messages.odometry(T, stamp), stamp)


def _write_pictures(bag: BagWriter, shot: SimFrame) -> None:
    for view in sorted(shot.views, key=lambda v: v.stamp):
        name = view.camera.name
        frame = f"{name}_optical"
        image = messages.compressed_image(encode_jpeg(view.image), "jpeg", view.stamp, frame)
        bag.write(f"/{name}/image_raw/compressed", image, view.stamp)
        bag.write(f"/{name}/camera_info", messages.camera_info(view.camera, view.stamp, frame), view.stamp)


def _write_points(bag: BagWriter, shot: SimFrame, received: int) -> None:
    raw = shot.raw
    position = {"x": raw.xyz[:, 0], "y": raw.xyz[:, 1], "z": raw.xyz[:, 2]}
    columns = {**position, "intensity": raw.intensity, "ring": np.asarray(raw.ring, np.uint16)}
    columns["time"] = np.asarray(raw.time, np.float32)
    truth = {**position, "label": shot.labels.astype(np.uint16), "instance": shot.instances.astype(np.uint32)}
    bag.write("/points", messages.point_cloud(columns, shot.stamp, "lidar"), received)
    bag.write("/ground_truth/points", messages.point_cloud(truth, shot.stamp, "lidar"), received)
