"""SemanticKITTI (Behley et al., 2019): Velodyne sweeps, left colour camera, point labels; layout in ``kitti_drive``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int32

from ov3d_perception.datasets.kitti_drive import ADVICE, KittiDrive, open_drive
from ov3d_perception.datasets.labelset import LabelSet
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import ImageError
from ov3d_perception.geometry.poses import invert
from ov3d_perception.types import Camera, Frame, Scan, Sweep, View


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
        drives = [open_drive(self.root, name, problems, images, labels) for name in names]
        require(self.root, problems, ADVICE)
        self._drives = [drive for drive in drives if drive is not None]
        self.sequences = tuple(names)
        self._index = [(drive, position) for drive in self._drives for position in range(len(drive.frames))]

    def __len__(self) -> int:
        return len(self._index)

    def frame(self, index: int) -> Frame:
        drive, position = self._index[index]
        first = max(0, position - self.sweeps + 1)
        number = drive.frames[position]
        sweeps = tuple(self._sweep(drive, drive.frames[i]) for i in range(position, first - 1, -1))
        views = (self._view(drive, number),) if self.images else ()
        labels = self._labels(drive, number) if self.labels else None
        return Frame(f"{drive.name}/{number:06d}", sweeps, views, labels)

    def _names(self, sequences: Sequence[str | int] | None, problems: list[str]) -> list[str]:
        if sequences is not None:
            return [name if isinstance(name, str) else f"{name:02d}" for name in sequences]
        names = sorted(path.name for path in (self.root / "sequences").glob("*") if path.is_dir())
        if not names:
            problems.append("sequences/: no sequence folder in it")
        return names

    def _sweep(self, drive: KittiDrive, frame: int) -> Sweep:
        raw = drive.points(frame)
        scan = Scan(np.ascontiguousarray(raw[:, :3]), np.clip(raw[:, 3], 0, 1), stamp=drive.stamp(frame))
        return Sweep(scan, drive.T_world_lidar[frame])

    def _view(self, drive: KittiDrive, frame: int) -> View:
        image = cv2.imread(str(drive.image_path(frame)), cv2.IMREAD_COLOR)
        if image is None:
            raise ImageError(f"{drive.image_path(frame)} does not decode", "Download it again")
        height, width = image.shape[:2]
        return View(
            Camera("image_2", width, height, drive.K),
            drive.T_world_lidar[frame] @ invert(drive.T_camera_lidar),
            np.ascontiguousarray(image[..., ::-1]),
            drive.stamp(frame),
        )

    def _labels(self, drive: KittiDrive, frame: int) -> Int32[np.ndarray, " n"]:
        assert self.labelset is not None
        return self.labelset.map(drive.labels(frame) & 0xFFFF)
