"""SemanticKITTI (Behley et al., 2019): Velodyne sweeps, left colour camera, point labels; layout in ``kitti_drive``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from ov3d_perception.datasets import splits
from ov3d_perception.datasets.images import read_image
from ov3d_perception.datasets.kitti_drive import ADVICE, KittiDrive, open_drive
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import DatasetError, PointCloudError
from ov3d_perception.geometry.poses import invert
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import Camera, Frame, Preparation, Scan, Sweep, View

SPLITS = {"train": (0, 1, 2, 3, 4, 5, 6, 7, 9, 10), "val": (8,), "test": tuple(range(11, 22))}  # the benchmark's


class SemanticKitti(FrameSource):
    """Frames of the asked sequences.

    root: the folder that holds ``sequences/``. sequences: their names, None for those of ``split``. split: train, val
    or test, all of whose sequences must be there; None for all there are. subset: "1%-scans" takes every 100th scan of
    all (SLidR's and CLIP2Scene's 1 %). sweeps: K, the key sweep and up to K - 1 before it (fewer at the start of a
    sequence). labelset: name of a shipped label set, or a YAML file. images: False leaves the views out. labels: False
    for sequences without labels (the test split's).

    Points that are not finite, scans missing between others and damaged sweeps before the key sweep are left out,
    counted in ``left_out`` and logged.
    Raises DatasetError that lists all missing and inconsistent files.
    """

    preparation = Preparation(deskew=True)  # its clouds come without the sensor's motion

    def __init__(
        self,
        root: str | Path,
        sequences: Sequence[str | int] | None = None,
        sweeps: int = 1,
        labelset: str = "semantickitti19",
        images: bool = True,
        labels: bool = True,
        split: str | None = None,
        subset: str | None = None,
    ) -> None:
        if split not in (None, *SPLITS) or subset not in (None, splits.SCANS) or (split and sequences is not None):
            raise DatasetError(
                f"split={split!r}, subset={subset!r}, sequences={sequences}",
                f"Name sequences or a split ({', '.join(SPLITS)}), not both; the subset is {splits.SCANS}",
            )
        self.root = Path(root)
        self.labelset = LabelSet.load(labelset) if labels else None
        self.sweeps, self.images, self.labels = sweeps, images, labels
        problems: list[str] = []
        names = self._names(SPLITS[split] if split else sequences, problems)
        drives = [open_drive(self.root, name, problems, images, labels) for name in names]
        require(self.root, problems, ADVICE)
        self._drives = [drive for drive in drives if drive is not None]
        for drive in self._drives:
            if gaps := drive.frames[-1] - drive.frames[0] + 1 - len(drive.frames):
                self.leave_out("scan that is missing between others", f"sequences/{drive.name}", gaps)
        self._index = [(drive, position) for drive in self._drives for position in range(len(drive.frames))]
        if subset:
            self._index = splits.every_hundredth_frame(self._index)
        self.sequences = tuple(dict.fromkeys(drive.name for drive, _ in self._index))

    def __len__(self) -> int:
        return len(self._index)

    def frame(self, index: int) -> Frame:
        drive, position = self._index[index]
        first = max(0, position - self.sweeps + 1)
        number = drive.frames[position]
        scan = self._scan(drive, number)
        sweeps = [Sweep(scan, drive.T_world_lidar[number])]
        for earlier in range(position - 1, first - 1, -1):
            try:
                before = self._scan(drive, drive.frames[earlier])
            except PointCloudError as error:
                self.leave_out("sweep before the key sweep that is damaged", error.cause)
                continue
            sweeps.append(Sweep(before, drive.T_world_lidar[drive.frames[earlier]]))
        views = (self._view(drive, number),) if self.images else ()
        labels = self._labels(drive, number, scan) if self.labels else None
        return Frame(f"{drive.name}/{number:06d}", tuple(sweeps), views, labels)

    def _names(self, sequences: Sequence[str | int] | None, problems: list[str]) -> list[str]:
        if sequences is not None:
            return [name if isinstance(name, str) else f"{name:02d}" for name in sequences]
        names = sorted(path.name for path in (self.root / "sequences").glob("*") if path.is_dir())
        if not names:
            problems.append("sequences/: no sequence folder in it")
        return names

    def _scan(self, drive: KittiDrive, frame: int) -> Scan:
        raw = drive.points(frame)
        kept = np.flatnonzero(np.isfinite(raw).all(axis=1))
        if len(kept) == 0:
            raise PointCloudError(f"Scan {frame:06d} of {drive.folder} has no finite point", "Unpack the archive again")
        whole = len(kept) == len(raw)
        if not whole:
            self.leave_out("point that is not finite", f"{drive.name}/{frame:06d}", len(raw) - len(kept))
            raw = raw[kept]
        if (beyond := raw[:, 3] > 1).mean() > 0.5:
            kind = "part of an intensity above 1, as most of a scan's are (0 to 255? this layout's end at 1)"
            self.leave_out(kind, f"{drive.name}/{frame:06d}", int(beyond.sum()))
        xyz, intensity = np.ascontiguousarray(raw[:, :3]), np.clip(raw[:, 3], 0, 1)
        return Scan(xyz, intensity, drive.stamp(frame), source_index=None if whole else kept)

    def _view(self, drive: KittiDrive, frame: int) -> View:
        image = read_image(drive.image_path(frame))
        height, width = image.shape[:2]
        return View(
            Camera("image_2", width, height, drive.K),
            drive.T_world_lidar[frame] @ invert(drive.T_camera_lidar),
            image,
            drive.stamp(frame),
        )

    def _labels(self, drive: KittiDrive, frame: int, scan: Scan) -> Int32[np.ndarray, " n"]:
        assert self.labelset is not None
        raw = drive.labels(frame) & 0xFFFF
        return self.labelset.map(raw if scan.source_index is None else raw[scan.source_index])
