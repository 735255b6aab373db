"""One key frame of nuScenes (Caesar et al., 2020): a 32-beam sweep, six cameras, boxes, in mmdetection3d's layout.

``root/info.json`` holds ``data_list`` of samples with ``ego2global``, ``lidar_points.lidar2ego`` and, for each camera,
``cam2img`` and ``lidar2cam``; the latter has the ego motion between the sweep and the exposure in it. The world is
nuScenes' global frame; axes are turned as ``nuscenes_files`` does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from ov3d_perception.datasets.images import read_image
from ov3d_perception.datasets.nuscenes_files import POINT_BYTES, T_NUSCENES_REP103, read_scan
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.boxes import Box, points_in_box
from ov3d_perception.geometry.cameras import validate_camera
from ov3d_perception.geometry.poses import invert, rigid
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import UNLABELLED, Camera, Frame, Pose, Scan, Sweep, View

REMEDY = "The folder needs info.json (mmdetection3d's nuScenes info as JSON) and the files it names beside it"


class NuScenesKeyframe(FrameSource):
    """The samples of ``root/info.json``. Labels are taken from the 3D boxes: a point in a box has the box's class, all
    others are UNLABELLED (the key frame has no lidarseg file).

    labelset: a label set whose names hold the ten detection classes. images: False leaves the views out.

    Raises DatasetError that lists all missing and inconsistent files.
    """

    def __init__(self, root: str | Path, labelset: str = "nuscenes16", images: bool = True) -> None:
        self.root, self.images = Path(root), images
        self.labelset: LabelSet = LabelSet.load(labelset)
        info = self._read_info()
        self._samples: list[dict[str, Any]] = info["data_list"]
        self._categories: dict[int, str] = {i: name for name, i in info["metainfo"]["categories"].items()}
        problems = [problem for sample in self._samples for problem in self._check(sample)]
        problems += [
            f"label set {self.labelset.name}: has no class {name!r}"
            for name in self._categories.values()
            if name not in self.labelset.names
        ]
        require(self.root, problems, REMEDY)
        self.sequences = tuple(str(sample["token"]) for sample in self._samples)

    def __len__(self) -> int:
        return len(self._samples)

    def frame(self, index: int) -> Frame:
        sample = self._samples[index]
        T_world_ego = rigid(sample["ego2global"])
        T_world_raw = T_world_ego @ rigid(sample["lidar_points"]["lidar2ego"])
        sweep = Sweep(self._scan(sample), T_world_raw @ T_NUSCENES_REP103)
        cameras = sample["images"].items() if self.images else ()
        views = tuple(self._view(name, entry, T_world_raw) for name, entry in cameras)
        labels = self._labels(self.boxes(index), sweep.scan)
        return Frame(str(sample["token"]), (sweep,), views, labels)

    def boxes(self, index: int) -> list[Box]:
        """The annotated boxes of a sample, in the frame of its sweep's points, without those of no class."""
        boxes = []
        for instance in self._samples[index]["instances"]:
            if instance["bbox_label_3d"] not in self._categories:
                continue
            x, y, z, length, width, height, yaw = instance["bbox_3d"]
            centre = (T_NUSCENES_REP103[:3, :3].T @ [x, y, z]).astype(np.float64)
            label = self._categories[instance["bbox_label_3d"]]
            boxes.append(Box(centre, np.array([length, width, height]), yaw - np.pi / 2, label))
        return boxes

    def _read_info(self) -> dict[str, Any]:
        path = self.root / "info.json"
        if not path.is_file():
            require(self.root, ["info.json: missing"], REMEDY)
        try:
            info: dict[str, Any] = json.loads(path.read_text())
        except ValueError as error:
            require(self.root, [f"info.json: {error}"], REMEDY)
        missing = [f"info.json: no {key!r} in it" for key in ("data_list", "metainfo") if key not in info]
        require(self.root, missing, REMEDY)
        return info

    def _check(self, sample: dict[str, Any]) -> list[str]:
        problems = []
        try:
            lidar, images = sample["lidar_points"], sample["images"]
            named = [lidar["lidar_path"]] + [entry["img_path"] for entry in images.values() if self.images]
            problems += [f"{file}: missing" for file in named if not (self.root / file).is_file()]
            for matrix in [sample["ego2global"], lidar["lidar2ego"], *(e["lidar2cam"] for e in images.values())]:
                rigid(matrix)
        except KeyError as error:
            return [f"info.json, sample {sample.get('token')}: no {error} in it"]
        except TransformError as error:
            problems.append(f"info.json, sample {sample.get('token')}: {error.cause}")
        path = self.root / lidar["lidar_path"]
        if path.is_file() and (path.stat().st_size == 0 or path.stat().st_size % POINT_BYTES):
            problems.append(f"{lidar['lidar_path']}: {path.stat().st_size} bytes are no whole points of {POINT_BYTES}")
        return problems

    def _scan(self, sample: dict[str, Any]) -> Scan:
        return read_scan(self.root / sample["lidar_points"]["lidar_path"], _nanoseconds(sample["timestamp"]))

    def _view(self, name: str, entry: dict[str, Any], T_world_raw: Pose) -> View:
        image = read_image(self.root / entry["img_path"])
        height, width = image.shape[:2]
        camera = Camera(name.lower(), width, height, np.array(entry["cam2img"], np.float64)[:3, :3])
        validate_camera(camera)
        T_world_camera = T_world_raw @ invert(rigid(entry["lidar2cam"]))
        return View(camera, T_world_camera, image, _nanoseconds(entry["timestamp"]))

    def _labels(self, boxes: list[Box], scan: Scan) -> Int32[np.ndarray, " n"]:
        labels = np.full(len(scan), UNLABELLED, np.int32)
        for box in boxes:
            labels[points_in_box(scan.xyz, box)] = self.labelset.names.index(box.label)
        return labels


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e6) * 1000  # nuScenes counts microseconds
