"""COLMAP's sparse models, text or binary, read by pycolmap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ov3d_perception.datasets.images import read_image
from ov3d_perception.errors import DatasetError
from ov3d_perception.fields.scene import Scene
from ov3d_perception.fields.sources.images import read_masks, undistorted
from ov3d_perception.geometry.poses import from_quaternion, invert
from ov3d_perception.types import Camera, Pose, View

_PLACES = ("sparse/0", "sparse", "colmap/sparse/0", "0", ".")
# Which of a model's parameters are distortion, in OpenCV's order; fx, fy, cx and cy come before them.
_MODELS = {
    "SIMPLE_PINHOLE": (1, 0), "PINHOLE": (2, 0), "SIMPLE_RADIAL": (1, 1), "RADIAL": (1, 2), "OPENCV": (2, 4),
    "OPENCV_FISHEYE": (2, 4),
}  # fmt: skip


def find_model(folder: Path) -> Path | None:
    """Where a folder keeps its model."""
    return next((folder / p for p in _PLACES if any((folder / p).glob("images.[bt][ix][nt]"))), None)


def load_colmap(folder: Path, model: Path) -> Scene:
    """The registered images of ``images/``, undistorted, with the model's points and depths. Masks as 3D-OVS has them.

    Raises DatasetError, also without pycolmap.
    """
    try:
        import pycolmap
    except ImportError as error:
        raise DatasetError(f"{model} is a COLMAP model, and pycolmap is missing", "pip install pycolmap") from error
    try:
        read: Any = pycolmap.Reconstruction(str(model))
    except Exception as error:
        raise DatasetError(
            f"The COLMAP model {model} cannot be read ({str(error)[:200]})", "Run COLMAP again"
        ) from error
    images = sorted((one for one in read.images.values() if one.has_pose), key=lambda one: one.name)
    points = np.array([point.xyz for point in read.points3D.values()]).reshape(-1, 3)
    views = [_view(folder, one, read.cameras[one.camera_id]) for one in images]
    names = [Path(one.name).stem for one in images]
    classes, masks = read_masks(folder, names, views[0].image.shape[:2]) if views else ((), {})
    depths = [_depths(view, [read.points3D[p.point3D_id].xyz for p in one.points2D if p.has_point3D()])
              for view, one in zip(views, images, strict=True)]  # fmt: skip
    known = all(depth is not None for depth in depths)
    return Scene(
        folder.name,
        tuple(views),
        tuple(names),
        np.array(depths) if known and depths else None,
        points if len(points) else None,
        classes=classes,
        masks=masks,
        test=tuple(sorted(masks)),
    )


def _view(folder: Path, image: Any, camera: Any) -> View:
    path = folder / "images" / image.name
    picture = read_image(path)
    name = camera.model.name
    if name not in _MODELS:
        raise DatasetError(f"{image.name} has a camera of model {name}", f"Use one of {', '.join(_MODELS)}")
    focals, count = _MODELS[name]
    values = np.asarray(camera.params, np.float64)
    height, width = picture.shape[:2]
    scale = width / camera.width
    fx, fy = values[0] * scale, values[focals - 1] * scale
    cx, cy = values[focals : focals + 2] * scale
    K = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])  # COLMAP has pixel corners at whole numbers
    distortion = values[focals + 2 : focals + 2 + count]
    fisheye = name == "OPENCV_FISHEYE"
    if not fisheye and len(distortion):
        distortion = np.pad(distortion, (0, 4 - len(distortion)))
    lens = Camera("colmap", width, height, K, "fisheye" if fisheye else "pinhole", distortion)
    return undistorted(View(lens, invert(_camera_from_world(image)), picture))


def _camera_from_world(image: Any) -> Pose:
    """T_camera_world, whose rotation pycolmap does not normalise: quaternions in text files are rounded."""
    pose = image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world
    return from_quaternion(pose.translation, pose.rotation.quat)


def _depths(view: View, points: list[np.ndarray]) -> tuple[float, float] | None:
    if not points:
        return None
    away = (np.stack(points) - view.T_world_camera[:3, 3]) @ view.T_world_camera[:3, 2]
    near, far = np.percentile(away, [1, 99])
    return float(near), float(far)
