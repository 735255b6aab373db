"""A SemanticKITTI sequence folder becomes a standard bag: points, colour camera, calibration, poses, ground truth.

Layout in: ``<root>/sequences/NN/{velodyne,image_2,labels}``, ``calib.txt``, ``poses.txt`` (camera 0), ``times.txt``
(Behley et al. 2019, on the KITTI odometry benchmark of Geiger et al. 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ov3d_perception.bags import messages
from ov3d_perception.bags.images import encode_jpeg
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.poses import invert
from ov3d_perception.types import Camera, Pose

LIDAR_HEIGHT = 1.73  # metres above the road: KITTI's sensor set-up
CAMERA = "cam_2"
EPOCH = 1_317_000_000  # seconds; the odometry benchmark starts each sequence at 0, and ROS takes 0 for "no stamp"


@dataclass(frozen=True)
class _Calibration:
    """K: of the rectified colour camera 2; T_cam0_lidar, T_cam2_cam0."""

    K: np.ndarray
    T_cam0_lidar: Pose
    T_cam2_cam0: Pose


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
    folder = Path(root) / "sequences" / sequence
    scans = _check(folder, image_format)
    calibration = _read_calibration(folder / "calib.txt")
    stamps = _read_stamps(folder / "times.txt")
    T_base_lidar = np.eye(4)
    T_base_lidar[2, 3] = LIDAR_HEIGHT
    T_base_cam0 = T_base_lidar @ invert(calibration.T_cam0_lidar)
    poses = [T_base_cam0 @ T @ invert(T_base_cam0) for T in _read_poses(folder / "poses.txt")]
    if len(poses) != len(stamps) or len(scans) > len(poses):
        raise DatasetError(
            f"{folder} has {len(stamps)} times, {len(poses)} poses and {len(scans)} scans", "Download the sequence anew"
        )
    with BagWriter(out, overwrite) as bag:
        static = [
            ("base_link", "lidar", stamps[0], T_base_lidar),
            ("base_link", f"{CAMERA}_optical", stamps[0], T_base_cam0 @ invert(calibration.T_cam2_cam0)),
            ("map", "odom", stamps[0], np.eye(4)),
        ]
        bag.write("/tf_static", messages.tf_message(static), stamps[0])
        for scan in scans:
            index = int(scan.stem)
            bag.write("/tf", messages.tf_message([("odom", "base_link", stamps[index], poses[index])]), stamps[index])
            bag.write("/odom", messages.odometry(poses[index], stamps[index]), stamps[index])
            _write_camera(bag, folder, scan.stem, calibration.K, stamps[index], image_format)
            _write_points(bag, folder, scan, stamps[index])
    return Path(out)


def _check(folder: Path, image_format: str) -> list[Path]:
    """The scans; raises DatasetError naming every missing file."""
    if image_format not in ("png", "jpeg"):
        raise DatasetError(f"Image format '{image_format}' is unknown", "Use png or jpeg")
    scans = sorted((folder / "velodyne").glob("*.bin"))
    needed = [folder / name for name in ("calib.txt", "poses.txt", "times.txt")]
    needed += [folder / "image_2" / f"{scan.stem}.png" for scan in scans]
    missing = [str(path.relative_to(folder)) for path in needed if not path.is_file()]
    if not scans:
        missing.append("velodyne/*.bin")
    if missing:
        raise DatasetError(
            f"{folder} is not a complete SemanticKITTI sequence; missing: {', '.join(missing)}",
            "Give the folder that holds `sequences`, with velodyne, image_2, calibration and poses unpacked into it",
        )
    return scans


def _read_calibration(path: Path) -> _Calibration:
    rows = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    if not {"P2", "Tr"} <= set(rows):
        raise DatasetError(f"{path} has {sorted(rows)}, without P2 and Tr", "Take the odometry benchmark's calib.txt")
    P2, Tr = (np.array(rows[key].split(), np.float64).reshape(3, 4) for key in ("P2", "Tr"))
    T_cam2_cam0 = np.eye(4)
    T_cam2_cam0[:3, 3] = np.linalg.solve(P2[:, :3], P2[:, 3])
    return _Calibration(P2[:, :3], np.vstack([Tr, [0, 0, 0, 1]]), T_cam2_cam0)


def _read_stamps(path: Path) -> list[int]:
    return [EPOCH * messages.SECOND + round(float(line) * 1e9) for line in path.read_text().split()]


def _read_poses(path: Path) -> list[Pose]:
    """Poses of camera 0 in the frame of the first one, re-orthonormalised (the file has six digits)."""
    poses = []
    for row in np.loadtxt(path, ndmin=2).reshape(-1, 3, 4):
        T = np.vstack([row, [0, 0, 0, 1]])
        u, _, vt = np.linalg.svd(T[:3, :3])
        T[:3, :3] = u @ vt
        poses.append(T)
    return poses


def _write_points(bag: BagWriter, folder: Path, scan: Path, stamp: int) -> None:
    points = np.fromfile(scan, np.float32).reshape(-1, 4)
    columns = dict(zip(("x", "y", "z", "intensity"), points.T, strict=True))
    bag.write("/points", messages.point_cloud(columns, stamp, "lidar"), stamp)
    labels = folder / "labels" / f"{scan.stem}.label"
    if labels.is_file():
        packed = np.fromfile(labels, np.uint32)
        truth = {"label": (packed & 0xFFFF).astype(np.uint16), "instance": (packed >> 16).astype(np.uint16)}
        bag.write("/ground_truth/points", messages.point_cloud(truth, stamp, "lidar"), stamp)


def _write_camera(bag: BagWriter, folder: Path, stem: str, K: np.ndarray, stamp: int, image_format: str) -> None:
    data = np.fromfile(folder / "image_2" / f"{stem}.png", np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"{folder / 'image_2' / stem}.png does not decode", "Download the sequence anew")
    if image_format == "jpeg":
        data = encode_jpeg(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), quality=95)
    frame = f"{CAMERA}_optical"
    camera = Camera(CAMERA, image.shape[1], image.shape[0], K)
    bag.write(f"/{CAMERA}/image_raw/compressed", messages.compressed_image(data, image_format, stamp, frame), stamp)
    bag.write(f"/{CAMERA}/camera_info", messages.camera_info(camera, stamp, frame), stamp)
