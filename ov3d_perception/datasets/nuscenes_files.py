"""nuScenes' files (Caesar et al., 2020): names, axes, and what is in a sweep and a label file.

nuScenes' LiDAR axes (x right, y forward) are turned to REP 103 (x forward, y left) on reading and back on writing.
A sweep is published as seen from the sensor at its stamp: the car's own motion is taken out already.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ov3d_perception.errors import PointCloudError
from ov3d_perception.types import Scan

T_NUSCENES_REP103 = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
LIDAR = "LIDAR_TOP"
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
POINT_BYTES = 20  # x y z intensity ring, float32
# The lidarseg categories; a point's byte in a label file is an index into them.
CATEGORIES = (
    "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.stroller",
    "human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris",
    "movable_object.pushable_pullable", "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle",
    "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance",
    "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck", "flat.driveable_surface",
    "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade", "static.other", "static.vegetation", "vehicle.ego",
)  # fmt: skip


def read_scan(path: Path, stamp: int) -> Scan:
    """A sweep's finite points; ``source_index`` says which they are, None where all are.

    Raises PointCloudError where the file is no whole number of points, or holds none that is finite.
    """
    if not path.is_file() or (size := path.stat().st_size) % POINT_BYTES:
        found = f"has {size} bytes, no whole points of {POINT_BYTES}" if path.is_file() else "is missing"
        raise PointCloudError(f"{path} {found}", "Unpack its archive again")
    raw = np.fromfile(path, np.float32).reshape(-1, 5)
    kept = np.flatnonzero(np.isfinite(raw).all(axis=1))
    if len(kept) == 0:
        raise PointCloudError(f"{path} has no finite point", "Unpack its archive again")
    whole = len(kept) == len(raw)
    raw = raw if whole else raw[kept]
    return Scan(
        np.stack([raw[:, 1], -raw[:, 0], raw[:, 2]], axis=1),
        np.clip(raw[:, 3] / 255, 0, 1),
        stamp,
        ring=raw[:, 4].astype(np.int32),
        source_index=None if whole else kept,
    )


def write_scan(path: Path, scan: Scan) -> None:
    """What :func:`read_scan` reads; intensities become integers of 0..255, as nuScenes has them."""
    ring = np.zeros(len(scan)) if scan.ring is None else scan.ring
    columns = [-scan.xyz[:, 1], scan.xyz[:, 0], scan.xyz[:, 2], np.round(scan.intensity * 255), ring]
    path.write_bytes(np.stack(columns, axis=1).astype(np.float32).tobytes())  # numpy's tofile hides why it fails
