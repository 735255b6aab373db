"""SemanticKITTI (Behley et al., 2019) on the KITTI odometry layout: Velodyne sweeps, left colour camera, point labels.

    root/sequences/00/{velodyne/000000.bin, labels/000000.label, image_2/000000.png, calib.txt, poses.txt, times.txt}

``calib.txt`` gives Tr (LiDAR to camera 0) and P2, whose fourth column is camera 2's offset from camera 0 times the
focal length. ``poses.txt`` holds camera 0's poses in its first frame; the world here is the LiDAR's first frame, which
is the same but for its axes (x forward, y left, z up). The sweeps come de-skewed to the camera's exposure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, Int32

from ov3d_perception.datasets.labelset import LabelSet
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import ImageError, TransformError
from ov3d_perception.geometry.poses import invert, rigid
from ov3d_perception.types import Camera, Frame, Pose, Scan, Sweep, View


@dataclass(frozen=True)
class _Drive:
    """What a sequence's text files say."""

    name: str
    folder: Path
    frames: list[int]
    times: Float64[np.ndarray, " n"]
    T_world_lidar: Float64[np.ndarray, "n 4 4"]
    K: Float64[np.ndarray, "3 3"]
    T_camera_lidar: Pose


class SemanticKitti(FrameSource):
    """Frames of the asked sequences.

    root: the folder that holds ``sequences/``. sequences: their names, None for all there are. sweeps: K, the key
    sweep and up to K - 1 before it (fewer at the start of a sequence). labelset: name of a shipped label set, or a
    YAML file. images: False leaves the views out. labels: False for sequences without labels (11-21).

    Raises DatasetError that lists all missing and inconsistent files.
    """

    def __init__(
        self,
        root: str | Path,
        sequences: Sequence[str | int] | None = None,
        sweeps: int = 1,
        labelset: str = "semantickitti19",
        images: bool = True,
        labels: bool = True,
    ) -> None:
        self.root = Path(root)
        self.labelset = LabelSet.load(labelset) if labels else None
        self.sweeps, self.images, self.labels = sweeps, images, labels
        problems: list[str] = []
        names = self._names(sequences, problems)
        drives = [self._open(name, problems) for name in names]
        require(self.root, problems, "See http://semantic-kitti.org/dataset.html for the layout")
        self._drives = [drive for drive in drives if drive is not None]
        self.sequences = tuple(names)
        self._index = [(drive, position) for drive in self._drives for position in range(len(drive.frames))]

    def __len__(self) -> int:
        return len(self._index)

    def frame(self, index: int) -> Frame:
        drive, position = self._index[index]
        first = max(0, position - self.sweeps + 1)
        sweeps = tuple(self._sweep(drive, i) for i in range(position, first - 1, -1))
        views = (self._view(drive, position),) if self.images else ()
        labels = self._labels(drive, position) if self.labels else None
        return Frame(f"{drive.name}/{drive.frames[position]:06d}", sweeps, views, labels)

    def _names(self, sequences: Sequence[str | int] | None, problems: list[str]) -> list[str]:
        if sequences is not None:
            return [name if isinstance(name, str) else f"{name:02d}" for name in sequences]
        names = sorted(path.name for path in (self.root / "sequences").glob("*") if path.is_dir())
        if not names:
            problems.append("sequences/: no sequence folder in it")
        return names

    def _open(self, name: str, problems: list[str]) -> _Drive | None:
        folder = self.root / "sequences" / name
        texts = [folder / file for file in ("calib.txt", "poses.txt", "times.txt")]
        missing = [str(path.relative_to(self.root)) for path in texts if not path.is_file()]
        scans = sorted((folder / "velodyne").glob("*.bin"))
        if not scans:
            missing.append(f"sequences/{name}/velodyne/*.bin")
        problems.extend(f"{path}: missing" for path in missing)
        for scan in scans:
            self._check_files(folder, scan, problems)
        if missing:
            return None
        frames = [int(scan.stem) for scan in scans]
        return _read_drive(self.root, folder, frames, problems)

    def _check_files(self, folder: Path, scan: Path, problems: list[str]) -> None:
        size = scan.stat().st_size
        if size == 0 or size % 16:
            problems.append(f"{scan.relative_to(self.root)}: {size} bytes are no whole points of 16")
        if self.images and not (folder / "image_2" / f"{scan.stem}.png").is_file():
            problems.append(f"sequences/{folder.name}/image_2/{scan.stem}.png: missing")
        label = folder / "labels" / f"{scan.stem}.label"
        if self.labels and not label.is_file():
            problems.append(f"{label.relative_to(self.root)}: missing")
        elif self.labels and label.stat().st_size * 4 != size:
            problems.append(
                f"{label.relative_to(self.root)}: {label.stat().st_size // 4} labels for {size // 16} points"
            )

    def _sweep(self, drive: _Drive, position: int) -> Sweep:
        raw = np.fromfile(drive.folder / "velodyne" / f"{drive.frames[position]:06d}.bin", np.float32).reshape(-1, 4)
        scan = Scan(np.ascontiguousarray(raw[:, :3]), np.clip(raw[:, 3], 0, 1), stamp=_stamp(drive, position))
        return Sweep(scan, drive.T_world_lidar[drive.frames[position]])

    def _view(self, drive: _Drive, position: int) -> View:
        path = drive.folder / "image_2" / f"{drive.frames[position]:06d}.png"
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise ImageError(f"{path} does not decode", "Download it again")
        height, width = image.shape[:2]
        T_world_camera = drive.T_world_lidar[drive.frames[position]] @ invert(drive.T_camera_lidar)
        return View(
            Camera("image_2", width, height, drive.K),
            T_world_camera,
            np.ascontiguousarray(image[..., ::-1]),
            _stamp(drive, position),
        )

    def _labels(self, drive: _Drive, position: int) -> Int32[np.ndarray, " n"]:
        raw = np.fromfile(drive.folder / "labels" / f"{drive.frames[position]:06d}.label", np.uint32)
        assert self.labelset is not None
        return self.labelset.map(raw & 0xFFFF)


def _stamp(drive: _Drive, position: int) -> int:
    return round(float(drive.times[drive.frames[position]]) * 1e9)


def _read_drive(root: Path, folder: Path, frames: list[int], problems: list[str]) -> _Drive | None:
    """calib.txt, poses.txt and times.txt of a sequence; None, with the reasons added to ``problems``, if they lack."""
    place = folder.relative_to(root)
    try:
        calib = {
            key.strip(): np.array(values.split(), np.float64).reshape(3, 4)
            for key, _, values in (
                line.partition(":") for line in (folder / "calib.txt").read_text().splitlines() if line.strip()
            )
        }
        P2, Tr = calib["P2"], calib["Tr"]
    except (ValueError, KeyError) as error:
        problems.append(f"{place}/calib.txt: needs lines `P2:` and `Tr:` of 12 numbers each ({error})")
        return None
    try:
        poses = np.loadtxt(folder / "poses.txt", ndmin=2).reshape(-1, 3, 4)
        times = np.loadtxt(folder / "times.txt", ndmin=1)
    except ValueError as error:
        problems.append(f"{place}/poses.txt, times.txt: not 12 numbers and 1 number a line ({error})")
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
    return _Drive(folder.name, folder, frames, times, T_world_lidar, K, T_camera_camera0 @ T_camera0_lidar)
