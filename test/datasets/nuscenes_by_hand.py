"""A data set in nuScenes' format written out by hand from its published schema, with geometry that can be checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ov3d_perception.datasets.nuscenes_files import CATEGORIES

VERSION = "v1.0-mini"
HALF = float(np.sqrt(0.5))
# x right, y forward, as nuScenes has it: 10 m ahead, 1 m to the right, behind.
POINTS = np.array([[0, 10, 0, 51, 3], [1, 10, 0, 255, 4], [0, -10, 0, 0, 5]], np.float32)
RAW_LABELS = np.array([24, 17, 0], np.uint8)  # driveable surface, car, noise


def write_by_hand(root: Path) -> None:
    """scene-0061 of two key frames with two sweeps between them, and scene-0103, which is not in ``mini_train``.

    The car drives north (+y) from (100, 200), a metre a sweep; the LiDAR sits 2 m above its origin, the camera
    0.5 m lower, looking ahead.
    """
    tables: dict[str, list[dict[str, Any]]] = {
        "scene": [{"token": "S2", "name": "scene-0103"}, {"token": "S1", "name": "scene-0061"}],
        "sensor": [
            {"token": "lidar", "channel": "LIDAR_TOP", "modality": "lidar"},
            {"token": "front", "channel": "CAM_FRONT", "modality": "camera"},
            {"token": "radar", "channel": "RADAR_FRONT", "modality": "radar"},
        ],
        "category": [{"token": str(i), "name": n, "description": "", "index": i} for i, n in enumerate(CATEGORIES)],
        # Raw LiDAR axes: turned by -90 degrees about z against the car's (x forward). Camera: optical axis ahead.
        "calibrated_sensor": [
            _mounted("cal-lidar", "lidar", [0, 0, 2], [HALF, 0, 0, -HALF], []),
            _mounted("cal-front", "front", [0, 0, 1.5], [0.5, -0.5, 0.5, -0.5], [[50, 0, 40], [0, 50, 20], [0, 0, 1]]),
            _mounted("cal-radar", "radar", [3, 0, 0.5], [1, 0, 0, 0], []),
        ],
        "sample": [
            {"token": "K2", "timestamp": 1_000_150, "scene_token": "S1", "prev": "K1", "next": ""},
            {"token": "K1", "timestamp": 1_000_000, "scene_token": "S1", "prev": "", "next": "K2"},
            {"token": "K3", "timestamp": 9_000_000, "scene_token": "S2", "prev": "", "next": ""},
        ],
        "ego_pose": [],
        "sample_data": [],
        "lidarseg": [],
    }
    sweeps = [("K1", True), ("K2", False), ("K2", False), ("K2", True)]
    for number, (sample, key) in enumerate(sweeps):
        _sweep(root, tables, number, sample, key, "" if number == 0 else f"L{number - 1}")
    for sample, stamp, key in (("K1", 1_000_010, True), ("K2", 1_000_080, False), ("K2", 1_000_160, True)):
        _image(root, tables, sample, stamp, key)
    _file(tables, "R0", "cal-radar", "K1", "samples/RADAR_FRONT/r0.pcd", 1_000_000, True)
    (root / VERSION).mkdir()
    for name, rows in tables.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(rows, indent=0))


def edit(root: Path, table: str, change: Any) -> None:
    """Rewrite a table by ``change(rows)``."""
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def _mounted(token: str, sensor: str, translation: list[float], rotation: list[float], K: list) -> dict[str, Any]:
    row = {"token": token, "sensor_token": sensor, "translation": translation, "rotation": rotation}
    return {**row, "camera_intrinsic": K}


def _sweep(root: Path, tables: dict, number: int, sample: str, key: bool, prev: str) -> None:
    token, place = f"L{number}", f"{'samples' if key else 'sweeps'}/LIDAR_TOP/l{number}.pcd.bin"
    _file(tables, token, "cal-lidar", sample, place, 1_000_000 + 50 * number, key, prev)
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    POINTS.tofile(root / place)
    if key:
        label = f"lidarseg/{VERSION}/{token}_lidarseg.bin"
        (root / label).parent.mkdir(parents=True, exist_ok=True)
        RAW_LABELS.tofile(root / label)
        tables["lidarseg"].append({"token": token, "sample_data_token": token, "filename": label})


def _image(root: Path, tables: dict, sample: str, stamp: int, key: bool) -> None:
    place = f"{'samples' if key else 'sweeps'}/CAM_FRONT/c{stamp}.jpg"
    _file(tables, f"C{stamp}", "cal-front", sample, place, stamp, key, size=(80, 40))
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / place), np.full((40, 80, 3), (200, 0, 0), np.uint8))  # blue


def _file(
    tables: dict, token: str, sensor: str, sample: str, place: str, stamp: int, key: bool, prev: str = "", size=(0, 0)
) -> None:
    north = 200 + (stamp - 1_000_000) / 50
    pose = {"token": f"E{token}", "timestamp": stamp, "rotation": [HALF, 0, 0, HALF], "translation": [100, north, 0]}
    tables["ego_pose"].append(pose)
    row = {"token": token, "sample_token": sample, "ego_pose_token": f"E{token}", "calibrated_sensor_token": sensor}
    row |= {"timestamp": stamp, "fileformat": place.rsplit(".", 1)[1], "is_key_frame": key, "filename": place}
    tables["sample_data"].append({**row, "width": size[0], "height": size[1], "prev": prev, "next": ""})
