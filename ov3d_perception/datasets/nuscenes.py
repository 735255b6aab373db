"""nuScenes (Caesar et al., 2020) with lidarseg (Fong et al., 2022): a 32-beam sweep, the sweeps before it, six cameras.

    root/v1.0-trainval/*.json  samples/LIDAR_TOP/*.pcd.bin  samples/CAM_FRONT/*.jpg  sweeps/LIDAR_TOP/*.pcd.bin
    root/lidarseg/v1.0-trainval/*.bin

The tables are read directly. The world is the map's frame; every view and every sweep has its own stamp and pose.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from ov3d_perception.datasets import splits
from ov3d_perception.datasets.images import read_image
from ov3d_perception.datasets.nuscenes_check import REMEDY, Disk, absent_sweeps, check_files, missing_pieces
from ov3d_perception.datasets.nuscenes_files import CAMERAS, POINT_BYTES, T_NUSCENES_REP103, read_scan
from ov3d_perception.datasets.nuscenes_tables import KeyFrame, Reading, Selection, TableReader, read_scenes
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import DatasetError, ImageError, PointCloudError
from ov3d_perception.geometry.cameras import resized, validate_camera
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import Camera, Frame, Scan, Sweep, View

log = logging.getLogger(__name__)
VERSIONS = {"mini_train": "v1.0-mini", "mini_val": "v1.0-mini", "test": "v1.0-test"}


class NuScenes(FrameSource):
    """Key frames of a split.

    root: the folder that holds ``samples`` and the tables' folder. split: train, val, test, mini_train, mini_val,
    slidr_train (600 scenes) or slidr_aside (100). scenes: only these of it. subset: "1%-scenes" (every 100th scene,
    SLidR's) or "1%-keyframes" (every 100th key frame, CLIP2Scene's) of them. version: the tables' folder; None: the
    one that holds the split. sweeps: K, the key sweep and up to K - 1 before it (fewer at the start of a scene).
    cameras: channels such as CAM_FRONT; None for all six. labelset: name of a shipped label set, or a YAML file.
    images, labels: False leaves them out; the test split has no labels.

    An image or an earlier sweep that is damaged, a point that is not finite and a single sweep that is missing are left
    out, counted in ``left_out`` and logged. Raises DatasetError that lists everything else that is missing or
    inconsistent; reading a frame whose key sweep or whose every image is damaged raises PointCloudError or ImageError.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        scenes: Sequence[str] | None = None,
        subset: str | None = None,
        version: str | None = None,
        sweeps: int = 1,
        cameras: Sequence[str] | None = None,
        labelset: str = "nuscenes16",
        images: bool = True,
        labels: bool = True,
    ) -> None:
        if sweeps < 1 or subset not in (None, splits.SCENES, splits.KEY_FRAMES):
            known = f"{splits.SCENES} or {splits.KEY_FRAMES}"
            raise DatasetError(f"sweeps={sweeps}, subset={subset!r}", f"Ask for at least one sweep; subset is {known}")
        unknown = set(cameras or ()) - set(CAMERAS)
        if unknown:
            raise DatasetError(f"nuScenes has no camera {sorted(unknown)}", f"Use some of {', '.join(CAMERAS)}")
        self.root, self.version = Path(root), version or VERSIONS.get(split, "v1.0-trainval")
        self.labelset = LabelSet.load(labelset) if labels else None
        channels = (CAMERAS if cameras is None else tuple(cameras)) if images else ()
        names = splits.nuscenes_scenes(split)
        require(self.root, missing_pieces(self.root, self.version, Selection((), channels, sweeps - 1, labels)), REMEDY)
        chosen = self._choose(names, split, scenes, subset)
        self._keys = self._read(Selection(frozenset(chosen), channels, sweeps - 1, labels))
        if subset == splits.KEY_FRAMES:
            self._keys = splits.every_hundredth_frame(self._keys)
        self.sequences = tuple(dict.fromkeys(key.scene for key in self._keys))

    def __len__(self) -> int:
        return len(self._keys)

    def frame(self, index: int) -> Frame:
        key = self._keys[index]
        scan = self._scan(key.lidar)
        sweeps = [Sweep(scan, key.lidar.T_world_sensor @ T_NUSCENES_REP103), *self._earlier(key)]
        labels = None if self.labelset is None else self._labels(key, scan)
        return Frame(key.name, tuple(sweeps), self._views(key), labels)

    # -- what there is -----------------------------------------------------------------------------------------------

    def _choose(
        self, names: Sequence[str], split: str, scenes: Sequence[str] | None, subset: str | None
    ) -> Sequence[str]:
        """The asked scenes of the split that the tables know, in the tables' order."""
        try:
            known = read_scenes(self.root / self.version)
        except (ValueError, KeyError) as error:
            require(self.root, [f"{self.version}/scene.json: {error!r}"], REMEDY)
        found = [name for name in known if name in set(names) and (scenes is None or name in scenes)]
        wrong = sorted(set(scenes or ()) - set(found))
        if wrong or not found:
            which = f" {', '.join(wrong)}" if wrong else ""
            raise DatasetError(
                f"{self.root / self.version} has no scene{which} of split {split}", "Ask for others, or download them"
            )
        if scenes is None and len(found) < len(names):
            log.warning("%s knows %d of the %d scenes of %s", self.root / self.version, len(found), len(names), split)
        if subset == splits.SCENES and not (found := splits.every_hundredth_scene(found)):
            raise DatasetError(f"Subset {subset} of fewer than {splits.STEP} scenes is empty", "Use all of them")
        return found

    def _read(self, wanted: Selection) -> list[KeyFrame]:
        problems: list[str] = []
        keys = TableReader(self.root / self.version, wanted, problems).key_frames()
        disk = Disk(self.root)
        problems += check_files(disk, keys)
        self._absent = absent_sweeps(disk, keys, problems)
        require(self.root, problems, REMEDY)
        if self._absent:
            self.leave_out("sweep between key frames that is missing", min(self._absent), len(self._absent))
        return keys

    # -- reading -----------------------------------------------------------------------------------------------------

    def _scan(self, reading: Reading) -> Scan:
        scan = read_scan(self.root / reading.file, reading.stamp)
        if scan.source_index is not None:
            size = (self.root / reading.file).stat().st_size
            self.leave_out("point that is not finite", reading.file, size // POINT_BYTES - len(scan))
        return scan

    def _earlier(self, key: KeyFrame) -> list[Sweep]:
        sweeps = []
        for reading in key.earlier:
            if reading.file in self._absent:
                continue
            try:
                sweeps.append(Sweep(self._scan(reading), reading.T_world_sensor @ T_NUSCENES_REP103))
            except PointCloudError as error:
                self.leave_out("sweep between key frames that is damaged", error.cause)
        return sweeps

    def _views(self, key: KeyFrame) -> tuple[View, ...]:
        views, last = [], None
        for reading in key.images:
            try:
                views.append(self._view(reading))
            except ImageError as error:
                self.leave_out("image that does not decode", error.cause)
                last = error
        if last is not None and not views:
            raise last
        return tuple(views)

    def _view(self, reading: Reading) -> View:
        image = read_image(self.root / reading.file)
        assert reading.sensor.K is not None
        camera = Camera(reading.sensor.channel.lower(), *reading.size, reading.sensor.K)
        validate_camera(camera)
        height, width = image.shape[:2]
        if (width, height) != reading.size:
            camera = resized(camera, width, height)
        return View(camera, reading.T_world_sensor, image, reading.stamp)

    def _labels(self, key: KeyFrame, scan: Scan) -> Int32[np.ndarray, " n"]:
        assert self.labelset is not None
        raw = np.fromfile(self.root / key.labels, np.uint8)
        return self.labelset.map(raw if scan.source_index is None else raw[scan.source_index])
