"""A simulated still life on the disk, in the format of the 3D-OVS data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ov3d_perception.fields.sources.llff import pose_row
from ov3d_perception.files import replacing, write_text
from ov3d_perception.sim.still_life import BOX, carried_camera, photograph, still_life
from ov3d_perception.types import UNLABELLED, View

_OPENGL_IN_OPTICAL = np.diag([1.0, -1, -1, 1])
TESTED = 5


def write_still_life(
    folder: Path, seed: int, views: int = 25, size: tuple[int, int] = (800, 600), all_round: bool = False
) -> None:
    """``images/``, ``poses_bounds.npy``, ``segmentations/`` of five test views, and ``transforms.json`` beside them.

    A pixel of a class that has no word of its own does not occur. Raises WriteError.
    """
    life = still_life(seed)
    camera, poses = carried_camera(views, size, all_round)
    tested = np.linspace(0, views - 1, TESTED + 2).round().astype(int)[1:-1]
    rows, frames = [], []
    for number, T in enumerate(poses):
        picture, depth = photograph(life, camera, T, seed * 1000 + number)
        _write(folder / "images" / f"{number:02d}.png", picture.image)
        seen = depth[np.isfinite(depth)]
        near, far = np.percentile(seen, [0.1, 99.9])
        rows.append(pose_row(View(camera, T, picture.image), (float(near), float(far))))
        frames.append({"file_path": f"images/{number:02d}.png", "transform_matrix": (T @ _OPENGL_IN_OPTICAL).tolist()})
        if number in tested:
            for label, word in zip(life.labels, life.words, strict=True):
                mask = np.where(picture.classes == label, 255, 0).astype(np.uint8)
                _write(folder / "segmentations" / f"{number:02d}" / f"{word}.png", mask)
            assert not (picture.classes == UNLABELLED).any()
    (folder / "segmentations").mkdir(parents=True, exist_ok=True)
    write_text(folder / "segmentations" / "classes.txt", "".join(f"{word}\n" for word in sorted(life.words)))
    with replacing(folder / "poses_bounds.npy") as file:
        np.save(file, np.stack(rows))
    intrinsics = {"w": camera.width, "h": camera.height, "fl_x": camera.K[0, 0], "fl_y": camera.K[1, 1],
                  "cx": camera.K[0, 2] + 0.5, "cy": camera.K[1, 2] + 0.5}  # fmt: skip
    content = {"camera_model": "OPENCV", **intrinsics, "aabb": BOX.tolist(), "frames": frames}
    write_text(folder / "transforms.json", json.dumps(content, indent=1))


def _write(path: Path, image: np.ndarray) -> None:
    with replacing(path, durable=False) as file:
        Image.fromarray(image).save(file, "png")
