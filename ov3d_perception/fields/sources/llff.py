"""LLFF's format, ``images/`` and ``poses_bounds.npy``, with the masks that 3D-OVS adds to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ov3d_perception.datasets.images import read_image
from ov3d_perception.errors import DatasetError
from ov3d_perception.fields.scene import Scene
from ov3d_perception.fields.sources.images import image_files, read_masks
from ov3d_perception.types import Camera, View

# LLFF's camera axes are down, right and back; ours right, down and forward.
_OPTICAL_IN_LLFF = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])


def load_llff(folder: Path) -> Scene:
    """A row of ``poses_bounds.npy`` (n, 17) is a 3 x 5 matrix, the pose (down, right, back, position) and (height,
    width, focal length), and the least and greatest depth; the images are those of ``images/``, by name.

    Images smaller or larger than the matrix says are taken for resized ones. Raises DatasetError.
    """
    files = image_files(folder / "images")
    try:
        rows = np.load(folder / "poses_bounds.npy").astype(np.float64)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{folder}/poses_bounds.npy cannot be read ({error})", "Run LLFF's imgs2poses again"
        ) from error
    if rows.ndim != 2 or rows.shape[1] != 17 or len(rows) != len(files) or not np.isfinite(rows).all():
        raise DatasetError(
            f"{folder}/poses_bounds.npy holds {rows.shape} numbers for {len(files)} images, not {(len(files), 17)}",
            "Remove the images that got no pose, or run COLMAP again",
        )
    images = [read_image(file) for file in files]
    views = [_view(row, image) for row, image in zip(rows, images, strict=True)]
    names = [file.stem for file in files]
    classes, masks = read_masks(folder, names, images[0].shape[:2])
    return Scene(
        folder.name, tuple(views), tuple(names), rows[:, 15:], classes=classes, masks=masks, test=tuple(sorted(masks))
    )


def pose_row(view: View, depths: tuple[float, float]) -> np.ndarray:
    """The inverse: a view's row."""
    matrix = np.empty((3, 5))
    matrix[:, :3] = view.T_world_camera[:3, :3] @ _OPTICAL_IN_LLFF.T
    matrix[:, 3] = view.T_world_camera[:3, 3]
    matrix[:, 4] = view.camera.height, view.camera.width, view.camera.K[0, 0]
    return np.concatenate([matrix.ravel(), depths])


def _view(row: np.ndarray, image: np.ndarray) -> View:
    matrix = row[:15].reshape(3, 5)
    (height, width), (_, stated, focal) = image.shape[:2], matrix[:, 4]
    f = focal * width / stated
    K = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = matrix[:, :3] @ _OPTICAL_IN_LLFF, matrix[:, 3]
    return View(Camera("llff", width, height, K), T, image)
