"""Drives in nuScenes' exact on-disk format, so that whatever reads nuScenes can be tried without its download.

All thirteen tables and lidarseg's are there, in the published layout and units (quaternions w x y z, microseconds,
intensities of 0..255); ``attribute``, ``instance`` and ``sample_annotation`` are empty, as in the published test set.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ov3d_perception.bags.images import encode_jpeg, encode_png
from ov3d_perception.datasets.nuscenes_files import CAMERAS, CATEGORIES, LIDAR, T_NUSCENES_REP103, write_scan
from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.poses import invert, to_quaternion
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import UNLABELLED, Frame, Pose, View

Row = dict[str, Any]
TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "lidarseg", "log", "map", "sample",
    "sample_annotation", "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip
_LEVELS = ("v0-40", "v40-60", "v60-80", "v80-100")


@dataclass(frozen=True)
class Drive:
    """A scene: its name, its revolutions in order of time, and where the sensors sit.

    A frame with views is a key frame (its cameras are named as nuScenes' channels, in small letters; its labels are
    classes of the writer's label set); one without is a sweep between two. T_base_camera: by camera name.
    """

    name: str
    frames: Iterable[Frame]
    T_base_lidar: Pose
    T_base_camera: Mapping[str, Pose]


def write_nuscenes(
    root: str | Path, drives: Iterable[Drive], version: str = "v1.0-mini", labelset: str = "nuscenes16"
) -> Path:
    """Write the drives under ``root`` and return it. The tables come last: what was interrupted has none.

    A class is written as the first raw id that the label set has for it, UNLABELLED as noise.
    Raises DatasetError where ``root`` has tables of that version already, or a drive has no key frame.
    """
    folder = Path(root) / version
    if folder.exists():
        raise DatasetError(f"{folder} exists", "Write into another folder, or remove it")
    writer = _Writer(Path(root), version, LabelSet.load(labelset))
    for drive in drives:
        writer.add(drive)
    folder.mkdir(parents=True)
    for table in TABLES:
        (folder / f"{table}.json").write_text(json.dumps(writer.tables[table], indent=0))
    return Path(root)


class _Writer:
    def __init__(self, root: Path, version: str, labelset: LabelSet) -> None:
        self.root, self.version = root, version
        self.raw = np.zeros(UNLABELLED + 1, np.uint8)
        self.raw[: len(labelset)] = [labelset.ids[name][0] for name in labelset.names]
        self.tables: defaultdict[str, list[Row]] = defaultdict(list)
        for index, name in enumerate(CATEGORIES):
            row = {"token": _token("category", name), "name": name, "description": "", "index": index}
            self.tables["category"].append(row)
        for channel in (LIDAR, *CAMERAS):
            modality = "lidar" if channel == LIDAR else "camera"
            self.tables["sensor"].append({"token": _token(channel), "channel": channel, "modality": modality})
        for number, level in enumerate(_LEVELS, 1):
            self.tables["visibility"].append({"token": str(number), "level": level, "description": ""})

    def add(self, drive: Drive) -> None:
        """Write the files of a drive and collect its rows."""
        log = self._log(drive)
        calibrated: dict[str, str] = {}
        samples: list[Row] = []
        waiting: list[Row] = []  # sweeps before a key frame belong to it, those after the last one to the last
        last: dict[str, Row] = {}
        for frame in drive.frames:
            lidar = self._sweep(drive, frame, calibrated)
            found = [lidar, *(self._image(drive, view, calibrated) for view in frame.views)]
            if frame.views:
                samples.append(self._sample(drive, lidar, samples))
                self._labels(frame, lidar)
            for row in found:
                _link(row, last.get(row["calibrated_sensor_token"]))
                last[row["calibrated_sensor_token"]] = row
            waiting += found
            if frame.views:
                _assign(waiting, samples[-1])
        if not samples:
            raise DatasetError(f"{drive.name} has no frame with images", "Give each drive at least one key frame")
        _assign(waiting, samples[-1])
        row = {"token": _token(drive.name), "log_token": log, "nbr_samples": len(samples), "name": drive.name}
        ends = {"first_sample_token": samples[0]["token"], "last_sample_token": samples[-1]["token"]}
        self.tables["scene"].append({**row, **ends, "description": ""})

    def _log(self, drive: Drive) -> str:
        token, chart = _token(drive.name, "log"), f"maps/{_token(drive.name, 'map')}.png"
        row: Row = {"token": token, "logfile": f"n000-{drive.name}", "vehicle": "n000", "date_captured": "2023-11-14"}
        self.tables["log"].append({**row, "location": "simulated"})
        row = {"token": _token(drive.name, "map"), "log_tokens": [token], "category": "semantic_prior"}
        self.tables["map"].append({**row, "filename": chart})
        self._path(chart).write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)).tobytes())
        return token

    def _sample(self, drive: Drive, lidar: Row, before: list[Row]) -> Row:
        row: Row = {"token": _token(drive.name, "sample", lidar["timestamp"]), "timestamp": lidar["timestamp"]}
        row |= {"prev": "", "next": "", "scene_token": _token(drive.name)}
        _link(row, before[-1] if before else None)
        self.tables["sample"].append(row)
        return row

    def _sweep(self, drive: Drive, frame: Frame, calibrated: dict[str, str]) -> Row:
        sweep = frame.sweeps[0]
        T_base_raw = drive.T_base_lidar @ invert(T_NUSCENES_REP103)
        T_world_base = sweep.T_world_lidar @ invert(drive.T_base_lidar)
        row = self._file(drive, LIDAR, sweep.scan.stamp, bool(frame.views), T_world_base, "pcd.bin")
        row["calibrated_sensor_token"] = self._calibrate(drive, LIDAR, T_base_raw, np.zeros(0), calibrated)
        write_scan(self._path(row["filename"]), sweep.scan)
        return row

    def _image(self, drive: Drive, view: View, calibrated: dict[str, str]) -> Row:
        channel, T_base_camera = view.camera.name.upper(), drive.T_base_camera[view.camera.name]
        row = self._file(drive, channel, view.stamp, True, view.T_world_camera @ invert(T_base_camera), "jpg")
        row["height"], row["width"] = view.image.shape[:2]
        row["calibrated_sensor_token"] = self._calibrate(drive, channel, T_base_camera, view.camera.K, calibrated)
        self._path(row["filename"]).write_bytes(encode_jpeg(view.image, 95).tobytes())
        return row

    def _file(self, drive: Drive, channel: str, stamp: int, key: bool, T_world_base: Pose, suffix: str) -> Row:
        """A row of sample_data and its pose; the file itself is the caller's."""
        microseconds = stamp // 1000
        token = _token(drive.name, channel, microseconds)
        place = f"{'samples' if key else 'sweeps'}/{channel}/n000-{drive.name}__{channel}__{microseconds}.{suffix}"
        row: Row = {"token": token, "sample_token": "", "ego_pose_token": token, "calibrated_sensor_token": ""}
        row |= {"timestamp": microseconds, "fileformat": suffix.split(".")[0], "is_key_frame": key}
        row |= {"height": 0, "width": 0, "filename": place, "prev": "", "next": ""}
        self.tables["ego_pose"].append({"token": token, "timestamp": microseconds, **_pose(T_world_base)})
        self.tables["sample_data"].append(row)
        return row

    def _calibrate(self, drive: Drive, channel: str, T: Pose, K: np.ndarray, calibrated: dict[str, str]) -> str:
        if channel not in calibrated:
            calibrated[channel] = _token(drive.name, "calibration", channel)
            row = {"token": calibrated[channel], "sensor_token": _token(channel), **_pose(T)}
            self.tables["calibrated_sensor"].append({**row, "camera_intrinsic": K.tolist()})
        return calibrated[channel]

    def _labels(self, frame: Frame, lidar: Row) -> None:
        labels = np.full(len(frame.sweeps[0].scan), UNLABELLED) if frame.labels is None else frame.labels
        place = f"lidarseg/{self.version}/{lidar['token']}_lidarseg.bin"
        self._path(place).write_bytes(self.raw[labels].tobytes())
        row = {"token": lidar["token"], "sample_data_token": lidar["token"], "filename": place}
        self.tables["lidarseg"].append(row)

    def _path(self, place: str) -> Path:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _token(*parts: object) -> str:
    """32 hexadecimal digits, the same for the same parts."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:32]


def _pose(T: Pose) -> Row:
    translation, (x, y, z, w) = to_quaternion(T)
    return {"translation": translation.tolist(), "rotation": [float(w), float(x), float(y), float(z)]}


def _link(row: Row, before: Row | None) -> None:
    if before is not None:
        row["prev"], before["next"] = before["token"], row["token"]


def _assign(waiting: list[Row], sample: Row) -> None:
    for row in waiting:
        row["sample_token"] = sample["token"]
    waiting.clear()
