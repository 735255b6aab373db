"""nerfstudio's ``transforms.json``; also that of instant-ngp and of the Blender data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from ov3d_perception.clouds.read import read_cloud
from ov3d_perception.datasets.images import read_image
from ov3d_perception.errors import DatasetError, TransformError
from ov3d_perception.fields.scene import Scene
from ov3d_perception.fields.sources.images import read_json, read_masks, undistorted
from ov3d_perception.geometry.poses import rigid
from ov3d_perception.types import Camera, View

_OPTICAL_IN_OPENGL = np.diag([1.0, -1, -1, 1])
_PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "RADIAL", "SIMPLE_RADIAL", "FULL_OPENCV", "PERSPECTIVE")
_FISHEYE = "OPENCV_FISHEYE"


def load_transforms(folder: Path) -> Scene:
    """Poses are OpenGL's, camera to world; intrinsics are the file's or a frame's own.

    ``ply_file_path`` gives points, ``aabb`` of ours a box, ``test_filenames`` the test views; masks as 3D-OVS has them.
    Raises DatasetError.
    """
    content: dict[str, Any] = read_json(folder / "transforms.json")
    frames = content.get("frames")
    if not isinstance(frames, list):
        raise DatasetError(f"{folder}/transforms.json has no list of frames", "Write it again")
    views, names = [], []
    if not all(isinstance(frame, dict) and isinstance(frame.get("file_path"), str) for frame in frames):
        raise DatasetError(f"A frame of {folder}/transforms.json has no file_path", "Write it again")
    for frame in sorted(frames, key=lambda one: one["file_path"]):
        path = folder / frame["file_path"]
        path = path if path.suffix else path.with_suffix(".png")  # Blender leaves it out
        views.append(_view(read_image(path), {**content, **frame}, folder))
        names.append(path.stem)
    tested = {Path(str(name)).stem for name in content.get("test_filenames", [])}
    classes, masks = read_masks(folder, names, views[0].image.shape[:2]) if views else ((), {})
    test = {number for number, name in enumerate(names) if name in tested} | set(masks)
    points = folder / str(content["ply_file_path"]) if content.get("ply_file_path") else None
    return Scene(
        folder.name,
        tuple(views),
        tuple(names),
        points=_points(points) if points is not None and points.is_file() else None,
        box=np.asarray(content["aabb"], np.float64).reshape(2, 3) if "aabb" in content else None,
        classes=classes,
        masks=masks,
        test=tuple(sorted(test)),
    )


def _points(path: Path) -> Float64[np.ndarray, "p 3"]:
    """In the frame of the poses: those of a survey stay where they are."""
    cloud = read_cloud(path)
    return cloud.xyz + cloud.offset


def _view(image: np.ndarray, stated: dict[str, Any], folder: Path) -> View:
    height, width = image.shape[:2]
    try:
        scale = width / float(stated["w"]) if "w" in stated else 1.0
        if "fl_x" in stated:
            fx = float(stated["fl_x"]) * scale
            fy = float(stated.get("fl_y") or stated["fl_x"]) * scale
        else:
            fx = fy = width / 2 / np.tan(float(stated["camera_angle_x"]) / 2)
        cx, cy = float(stated.get("cx", width / scale / 2)) * scale, float(stated.get("cy", height / scale / 2)) * scale
        T = rigid(stated["transform_matrix"]) @ _OPTICAL_IN_OPENGL
    except (KeyError, TypeError, ValueError, TransformError) as error:
        raise DatasetError(
            f"A frame of {folder}/transforms.json lacks intrinsics or a pose ({error!r})",
            "It needs fl_x or camera_angle_x, and transform_matrix",
        ) from error
    K = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])  # theirs have pixel corners at whole numbers
    model, distortion = _lens(stated, folder)
    return undistorted(View(Camera("nerfstudio", width, height, K, model, distortion), T, image))


def _lens(stated: dict[str, Any], folder: Path) -> tuple[str, Float64[np.ndarray, " d"]]:
    """Our model and OpenCV's coefficients. k1 to k4 belong to r^2 to r^8; a pinhole camera's k4 has none in OpenCV's
    formula. ``is_fisheye`` is instant-ngp's way to say OPENCV_FISHEYE.
    """
    name = _FISHEYE if stated.get("is_fisheye") else str(stated.get("camera_model", "OPENCV"))
    k1, k2, k3, k4, p1, p2 = (float(stated.get(key) or 0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if name == _FISHEYE:
        return "fisheye", np.array([k1, k2, k3, k4])
    if name not in _PINHOLES or k4:
        lens = f"camera_model {name}" if name not in _PINHOLES else f"a pinhole camera's k4 = {k4:g}"
        raise DatasetError(
            f"{folder}/transforms.json has {lens}, which is not read here",
            f"Undistort the images, or calibrate with one of {', '.join((*_PINHOLES, _FISHEYE))}, k1 to k3",
        )
    return "pinhole", np.array([k1, k2, p1, p2, k3])
