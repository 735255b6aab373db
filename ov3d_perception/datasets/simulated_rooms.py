"""Simulated rooms in ScanNet's on-disk format: for tests, and to try a recipe before the data set is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from tqdm import tqdm

from ov3d_perception.datasets.sens import SensCalibration, SensFrame, write_sens
from ov3d_perception.datasets.splits import parse_seeds
from ov3d_perception.files import replacing, write_text
from ov3d_perception.geometry.poses import transform
from ov3d_perception.sim.camera import rays
from ov3d_perception.sim.room import carried_through, furnished_room
from ov3d_perception.sim.still_life import photograph
from ov3d_perception.types import UNLABELLED, Camera, Pose

_UNSEEN = 0  # NYU40's id of what has no label


def write_rooms(
    root: str | Path,
    train: Sequence[int] | str = "0-7",
    validation: Sequence[int] | str = "1000-1001",
    *,
    images: int = 16,
    image_size: tuple[int, int] = (320, 240),
    vertex_m: float = 0.03,
) -> Path:
    """A room for each seed under ``root``, which is returned, with lists of both splits.

    images: views a room, of ``image_size`` (width, height), with depth of the same size. vertex_m: distance of the
    cloud's vertices, metres; they are what the views see. Raises DatasetError where seeds cannot be read.
    """
    root = Path(root)
    splits = {"train": parse_seeds(train), "val": parse_seeds(validation)}
    for split, seeds in splits.items():
        names = [f"scene{seed:04d}_00" for seed in seeds]
        for name, seed in tqdm(list(zip(names, seeds, strict=True)), desc=split, unit="room"):
            _write_room(root / "scans" / name, seed, images, image_size, vertex_m)
        write_text(root / f"scannetv2_{split}.txt", "".join(f"{name}\n" for name in names))
    return root


def _write_room(folder: Path, seed: int, images: int, size: tuple[int, int], vertex_m: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    life = furnished_room(seed)
    camera, poses = carried_through(images, size)
    frames, parts = [], []
    for number, T_world_camera in enumerate(poses):
        picture, depth = photograph(life, camera, T_world_camera, seed * 1000 + number)
        depth = np.where(np.isfinite(depth), depth, 0).astype(np.float32)
        frames.append(SensFrame(picture.image, depth, T_world_camera))
        parts.append(_seen(camera, T_world_camera, depth, picture.image, picture.classes))
    xyz, colour, label = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    first = np.unique(np.floor(xyz / vertex_m).astype(np.int64), axis=0, return_index=True)[1]
    stem = folder / f"{folder.name}_vh_clean_2"
    _write_mesh(stem.with_suffix(".ply"), xyz[first], colour[first], None)
    _write_mesh(stem.with_suffix(".labels.ply"), xyz[first], colour[first], label[first])
    write_sens(folder / f"{folder.name}.sens", SensCalibration(camera.K, camera.K, size, size), frames)


def _seen(
    camera: Camera,
    T_world_camera: Pose,
    depth: Float32[np.ndarray, "h w"],
    image: UInt8[np.ndarray, "h w 3"],
    classes: Int32[np.ndarray, "h w"],
) -> tuple[Float32[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"], Int32[np.ndarray, " n"]]:
    """Places, colours and NYU40 ids of what the pixels see."""
    kept = (depth > 0).ravel()
    directions = rays(camera)[kept]
    local = directions / directions[:, 2:] * depth.ravel()[kept, None]
    label = classes.ravel()[kept]
    xyz = transform(T_world_camera, local.astype(np.float64)).astype(np.float32)
    return xyz, image.reshape(-1, 3)[kept], np.where(label == UNLABELLED, _UNSEEN, label)


def _write_mesh(
    path: Path,
    xyz: Float32[np.ndarray, "n 3"],
    colour: UInt8[np.ndarray, "n 3"],
    label: Int32[np.ndarray, " n"] | None,
) -> None:
    """Vertices as ScanNet's meshes have them; there are no faces, which nobody needs here."""
    from plyfile import PlyData, PlyElement

    fields = [(axis, "f4") for axis in "xyz"] + [(name, "u1") for name in ("red", "green", "blue", "alpha")]
    rows = np.zeros(len(xyz), fields + [("label", "u2")] * (label is not None))
    for column, axis in enumerate("xyz"):
        rows[axis] = xyz[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        rows[name] = colour[:, column]
    rows["alpha"] = 255
    if label is not None:
        rows["label"] = label
    faces = np.zeros(0, [("vertex_indices", "i4", (3,))])
    elements = [PlyElement.describe(rows, "vertex"), PlyElement.describe(faces, "face")]
    with replacing(path) as file:
        PlyData(elements, byte_order="<").write(file)
