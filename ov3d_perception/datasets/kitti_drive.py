"""One sequence of the KITTI odometry layout, as SemanticKITTI extends it: what its files say, and their faults.

    root/sequences/00/{velodyne/000000.bin, labels/000000.label, image_2/000000.png, calib.txt, poses.txt, times.txt}

``calib.txt`` gives Tr (LiDAR to camera 0) and P2, whose fourth column is camera 2's offset from camera 0 times the
focal length. ``poses.txt`` holds camera 0's poses in its first frame; the world here is the LiDAR's first frame, which
is the same but for its axes (x forward, y left, z up). The sweeps come de-skewed to the camera's exposure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, UInt32

from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.poses import invert, rigid
from ov3d_perception.types import Pose

ADVICE = "See http://semantic-kitti.org/dataset.html for the layout"


@dataclass(frozen=True)
class KittiDrive:
    """frames: numbers of the scans, ascending; times (seconds) and T_world_lidar have a row for each frame number."""

    name: str
    folder: Path
    frames: list[int]
    times: Float64[np.ndarray, " n"]
    T_world_lidar: Float64[np.ndarray, "n 4 4"]
    K: Float64[np.ndarray, "3 3"]
    T_camera_lidar: Pose

    def stamp(self, frame: int) -> int:
        """Nanoseconds since the sequence's start."""
        return round(float(self.times[frame]) * 1e9)

    def points(self, frame: int) -> Float32[np.ndarray, "n 4"]:
        """x, y, z in metres, and the return's strength."""
        return np.fromfile(self.folder / "velodyne" / f"{frame:06d}.bin", np.float32).reshape(-1, 4)

    def image_path(self, frame: int) -> Path:
        """Of the left colour camera's picture."""
        return self.folder / "image_2" / f"{frame:06d}.png"

    def label_path(self, frame: int) -> Path:
        """Of the file of point labels."""
        return self.folder / "labels" / f"{frame:06d}.label"

    def labels(self, frame: int) -> UInt32[np.ndarray, " n"]:
        """Low 16 bits: SemanticKITTI's class id; high 16 bits: instance."""
        return np.fromfile(self.label_path(frame), np.uint32)


def open_drive(
    root: Path, name: str, problems: list[str], images: bool = True, labels: bool = True
) -> KittiDrive | None:
    """A sequence whose files are all there; else all faults go to ``problems``, and None comes where it is beyond use.

    images, labels: whether those files are needed.
    """
    folder = root / "sequences" / name
    texts = [folder / file for file in ("calib.txt", "poses.txt", "times.txt")]
    missing = [str(path.relative_to(root)) for path in texts if not path.is_file()]
    scans = sorted(path for path in (folder / "velodyne").glob("*.bin") if not path.name.startswith("."))
    odd = [path for path in scans if not (path.stem.isdecimal() and path.stem == f"{int(path.stem):06d}")]
    problems.extend(f"{path.relative_to(root)}: the name is no frame number of six digits" for path in odd)
    scans = [path for path in scans if path not in odd]
    if not scans:
        missing.append(f"sequences/{name}/velodyne/*.bin")
    problems.extend(f"{path}: missing" for path in missing)
    for scan in scans:
        _check_files(root, folder, scan, problems, images, labels)
    if missing:
        return None
    return _read(root, folder, [int(scan.stem) for scan in scans], problems)


def _check_files(root: Path, folder: Path, scan: Path, problems: list[str], images: bool, labels: bool) -> None:
    size = scan.stat().st_size
    if size == 0 or size % 16:
        problems.append(f"{scan.relative_to(root)}: {size} bytes are no whole points of 16")
    if images and not (folder / "image_2" / f"{scan.stem}.png").is_file():
        problems.append(f"sequences/{folder.name}/image_2/{scan.stem}.png: missing")
    label = folder / "labels" / f"{scan.stem}.label"
    if labels and not label.is_file():
        problems.append(f"{label.relative_to(root)}: missing")
    elif labels and label.stat().st_size * 4 != size:
        problems.append(f"{label.relative_to(root)}: {label.stat().st_size // 4} labels for {size // 16} points")


def _read(root: Path, folder: Path, frames: list[int], problems: list[str]) -> KittiDrive | None:
    """calib.txt, poses.txt and times.txt of a sequence; None, with the reasons added to ``problems``, if they lack."""
    place = folder.relative_to(root)
    try:
        lines = (line.partition(":") for line in (folder / "calib.txt").read_text().splitlines())
        calib = {key.strip(): values for key, _, values in lines}
        P2, Tr = (np.array(calib[key].split(), np.float64).reshape(3, 4) for key in ("P2", "Tr"))
    except (ValueError, KeyError) as error:
        problems.append(f"{place}/calib.txt: needs lines `P2:` and `Tr:` of 12 numbers each ({error})")
        return None
    try:
        poses = np.loadtxt(folder / "poses.txt", ndmin=2).reshape(-1, 3, 4)
        times = np.loadtxt(folder / "times.txt", ndmin=1)
    except ValueError as error:
        problems.append(f"{place}/poses.txt, times.txt: not 12 numbers and 1 number a line ({error})")
        return None
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        problems.append(f"{place}/times.txt: the times fall, or are no numbers")
        return None
    if min(len(poses), len(times)) <= max(frames):
        problems.append(f"{place}: {len(poses)} poses and {len(times)} times, the last scan is {max(frames):06d}")
        return None
    K = P2[:, :3]
    try:
        T_camera_camera0 = rigid(np.column_stack([np.eye(3), np.linalg.solve(K, P2[:, 3])]))
        T_camera0_lidar = rigid(Tr)
        T_world_lidar = np.stack([invert(T_camera0_lidar) @ rigid(pose) @ T_camera0_lidar for pose in poses])
    except (TransformError, np.linalg.LinAlgError) as error:
        problems.append(f"{place}: calib.txt or poses.txt: {error}")
        return None
    return KittiDrive(folder.name, folder, frames, times, T_world_lidar, K, T_camera_camera0 @ T_camera0_lidar)
