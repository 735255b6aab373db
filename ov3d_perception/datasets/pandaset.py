"""PandaSet (Xiao et al., 2021): Pandar64 sweeps with point labels, and the front camera.

    root/001/lidar/{00.npz, poses.json, timestamps.json}
    root/001/front_camera/{00.jpg, poses.json, timestamps.json, intrinsics.json}

An npz holds xyz_world (N, 3) in metres, intensity 0..255, time (s), sensor (0 the spinning Pandar64, 1 the forward
PandarGT) and label. The points are motion-compensated in the world frame; they come back to the frame of the LiDAR's
pose, whose origin is at the height of the road and whose axes (x right, y forward) are turned to REP 103.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32

from ov3d_perception.datasets.images import read_image
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import CalibrationError, ImageError, PointCloudError, TransformError
from ov3d_perception.geometry.cameras import validate_camera
from ov3d_perception.geometry.poses import from_quaternion, invert, transform
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import Camera, Frame, Pose, Preparation, Scan, Sweep, View

T_PANDASET_REP103 = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
SENSORS = (0, 1)
ARRAYS = ("xyz_world", "intensity", "time", "sensor", "label")
WIDTH, HEIGHT = 1920, 1080


@dataclass(frozen=True)
class _Sensor:
    """Poses and stamps (ns) of one sensor, by frame."""

    folder: Path
    poses: Float64[np.ndarray, "n 4 4"]
    stamps: list[int]


@dataclass(frozen=True)
class _Drive:
    name: str
    frames: list[str]
    lidar: _Sensor
    camera: _Sensor | None
    intrinsics: Camera | None


class PandaSet(FrameSource):
    """Frames of the asked sequences.

    root: the folder that holds ``001/`` and so on. sequences: their names, None for all there are. sweeps: K, the key
    sweep and up to K - 1 before it. sensors: 0 (Pandar64), 1 (PandarGT) or both. labelset: a shipped label set or a
    YAML file. images: False leaves the views out.

    Raises DatasetError that lists all missing and inconsistent files.
    """

    preparation = Preparation(deskew=True)  # its clouds come without the sensor's motion

    def __init__(
        self,
        root: str | Path,
        sequences: Sequence[str] | None = None,
        sweeps: int = 1,
        sensors: Sequence[int] = (0,),
        labelset: str = "pandaset",
        images: bool = True,
    ) -> None:
        self.root = Path(root)
        self.labelset: LabelSet = LabelSet.load(labelset)
        self.sweeps, self.sensors, self.images = sweeps, tuple(sensors), images
        problems = [f"sensor {sensor} is none of {SENSORS}" for sensor in sensors if sensor not in SENSORS]
        names = (
            list(sequences)
            if sequences is not None
            else sorted(path.parent.name for path in self.root.glob("*/lidar") if path.is_dir())
        )
        if not names:
            problems.append("*/lidar/: no sequence folder")
        drives = [self._open(name, problems) for name in names]
        require(
            self.root,
            problems,
            f"See https://pandaset.org for the layout; lidar frames are .npz with the arrays {', '.join(ARRAYS)}",
        )
        self.sequences = tuple(names)
        self._index = [(drive, i) for drive in drives if drive is not None for i in range(len(drive.frames))]

    def __len__(self) -> int:
        return len(self._index)

    def frame(self, index: int) -> Frame:
        drive, position = self._index[index]
        parts = [self._sweep(drive, i) for i in range(position, max(-1, position - self.sweeps), -1)]
        views = (_view(drive, position),) if drive.camera is not None else ()
        return Frame(f"{drive.name}/{drive.frames[position]}", tuple(sweep for sweep, _ in parts), views, parts[0][1])

    def _open(self, name: str, problems: list[str]) -> _Drive | None:
        before = len(problems)
        folder = self.root / name
        frames = sorted(path.stem for path in (folder / "lidar").glob("*.npz") if not path.name.startswith("."))
        if not frames:
            problems.append(f"{name}/lidar/*.npz: missing")
            return None
        if odd := [f"{name}/lidar/{frame}.npz: the name is no number" for frame in frames if not frame.isdecimal()]:
            problems.extend(odd)
            return None
        lidar = self._sensor(folder / "lidar", frames, problems)
        camera = self._sensor(folder / "front_camera", frames, problems) if self.images else None
        intrinsics = self._intrinsics(folder / "front_camera", problems) if self.images else None
        for frame in frames:
            if self.images and not (folder / "front_camera" / f"{frame}.jpg").is_file():
                problems.append(f"{name}/front_camera/{frame}.jpg: missing")
            problems.extend(self._check_arrays(folder / "lidar" / f"{frame}.npz"))
        return _Drive(name, frames, lidar, camera, intrinsics) if len(problems) == before and lidar else None

    def _check_arrays(self, path: Path) -> list[str]:
        place = path.relative_to(self.root)
        try:
            with np.load(path) as arrays:
                return [f"{place}: no array {name!r}" for name in ARRAYS if name not in arrays]
        except (OSError, ValueError) as error:
            return [f"{place}: {error}"]

    def _sensor(self, folder: Path, frames: list[str], problems: list[str]) -> _Sensor | None:
        place = folder.relative_to(self.root)
        try:
            entries = json.loads((folder / "poses.json").read_text())
            seconds = [float(second) for second in json.loads((folder / "timestamps.json").read_text())]
            poses = [
                from_quaternion(
                    [entry["position"][axis] for axis in "xyz"], [entry["heading"][axis] for axis in "xyzw"]
                )
                for entry in entries
            ]
        except FileNotFoundError as error:
            problems.append(f"{place}/{Path(error.filename).name}: missing")
            return None
        except (ValueError, KeyError, TypeError, TransformError) as error:
            problems.append(f"{place}/poses.json, timestamps.json: {error}")
            return None
        if min(len(poses), len(seconds)) <= int(frames[-1]):
            problems.append(f"{place}: {len(poses)} poses and {len(seconds)} stamps, the last frame is {frames[-1]}")
        return _Sensor(folder, np.array(poses), [round(s * 1e6) * 1000 for s in seconds])

    def _intrinsics(self, folder: Path, problems: list[str]) -> Camera | None:
        place = folder.relative_to(self.root)
        try:
            fx, fy, cx, cy = (
                float(json.loads((folder / "intrinsics.json").read_text())[key]) for key in ("fx", "fy", "cx", "cy")
            )
            camera = Camera("front_camera", WIDTH, HEIGHT, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))
            validate_camera(camera)
        except (OSError, ValueError, KeyError, TypeError, CalibrationError) as error:
            problems.append(f"{place}/intrinsics.json: {error}")
            return None
        return camera

    def _sweep(self, drive: _Drive, position: int) -> tuple[Sweep, Int32[np.ndarray, " n"]]:
        number, path = int(drive.frames[position]), drive.lidar.folder / f"{drive.frames[position]}.npz"
        with np.load(path) as arrays:
            if len({len(arrays[name]) for name in ARRAYS}) > 1:
                raise PointCloudError(f"The arrays of {path} have different lengths", "Download it again")
            rows = np.flatnonzero(np.isin(arrays["sensor"], self.sensors) & np.isfinite(arrays["xyz_world"]).all(1))
            xyz_world, intensity = arrays["xyz_world"][rows], arrays["intensity"][rows]
            label = arrays["label"][rows]
        T_world_lidar: Pose = drive.lidar.poses[number] @ T_PANDASET_REP103
        xyz = transform(invert(T_world_lidar), xyz_world.astype(np.float64)).astype(np.float32)
        scan = Scan(xyz, intensity.astype(np.float32) / 255, drive.lidar.stamps[number], source_index=rows)
        return Sweep(scan, T_world_lidar), self.labelset.map(label)


def _view(drive: _Drive, position: int) -> View:
    assert drive.camera is not None and drive.intrinsics is not None
    path, number = drive.camera.folder / f"{drive.frames[position]}.jpg", int(drive.frames[position])
    image = read_image(path)
    if image.shape[:2] != (HEIGHT, WIDTH):
        raise ImageError(f"{path} has {image.shape[1]} x {image.shape[0]} pixels", f"It needs {WIDTH} x {HEIGHT}")
    return View(drive.intrinsics, drive.camera.poses[number], image, drive.camera.stamps[number])
