"""Microsoft's 7-Scenes: ``frame-<id>.color.jpg`` or ``.png`` with ``.pose.txt``, and ``.depth.png`` where it is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ov3d_perception.datasets.images import read_image
from ov3d_perception.errors import DatasetError
from ov3d_perception.fields.scene import Scene
from ov3d_perception.geometry.poses import rigid
from ov3d_perception.types import Camera, View

_K = np.array([[528.5, 0, 321.4], [0, 528.5, 238.2], [0, 0, 1]])
_T_COLOUR_DEPTH = np.eye(4)
_T_COLOUR_DEPTH[0, 3] = -0.0249
"""Intrinsics of the colour camera, and where the depth camera is in its frame (metres): the data set registers neither;
both measured by aligning edges of 25 frames of RedKitchen, where they then agree within 2 pixels."""
_HELD_OUT = 10


def load_seven_scenes(folder: Path) -> Scene:
    """Colour images with their own poses; every tenth is a test view. Depth images, if any, give points and bounds."""
    files = sorted(folder.glob("frame-*.pose.txt"))
    views, names, bounds, clouds = [], [], [], []
    for file in files:
        stem = file.name.removesuffix(".pose.txt")
        pictures = [folder / f"{stem}.color{suffix}" for suffix in (".jpg", ".png")]
        picture = next((p for p in pictures if p.is_file()), None)
        if picture is None:
            raise DatasetError(f"{folder} has a pose but no image of {stem}", f"Restore {pictures[0].name}")
        image = read_image(picture)
        T_world_depth = rigid(np.loadtxt(file))
        height, width = image.shape[:2]
        T = T_world_depth @ np.linalg.inv(_T_COLOUR_DEPTH)
        views.append(View(Camera("kinect", width, height, _K), T, image))
        names.append(stem)
        depth = folder / f"{stem}.depth.png"
        if depth.is_file():
            points = _points(depth)
            bounds.append(np.percentile(points[:, 2], [1, 99]))
            clouds.append(points[:: max(1, len(points) // 2000)] @ T_world_depth[:3, :3].T + T_world_depth[:3, 3])
    known = len(bounds) == len(views)
    return Scene(
        folder.name,
        tuple(views),
        tuple(names),
        np.stack(bounds) if known else None,
        np.concatenate(clouds) if known else None,
        test=tuple(range(_HELD_OUT // 2, len(views), _HELD_OUT)),
    )


def _points(path: Path) -> np.ndarray:
    """Points in the depth camera's frame, metres."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise DatasetError(f"{path} cannot be read", "Restore it")
    depth = stored.astype(np.float64) / 1000
    v, u = np.nonzero((depth > 0.2) & (depth < 8))
    z = depth[v, u]
    return np.column_stack([(u - 320) / 585 * z, (v - 240) / 585 * z, z])
