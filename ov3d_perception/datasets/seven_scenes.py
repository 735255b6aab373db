"""Microsoft's 7-Scenes (Shotton et al., 2013): a hand-held Kinect's colour and depth images with their poses.

    root/frame-000000.color.jpg (or .png), frame-000000.depth.png, frame-000000.pose.txt, ...

A frame is a depth image as a cloud in the depth camera's optical frame, x right, y down, z ahead, and the colour image
as its view. The data set registers neither to the other; ``K_COLOUR`` and ``T_COLOUR_DEPTH`` were measured.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64

from ov3d_perception.datasets.images import read_image
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.poses import invert, rigid
from ov3d_perception.types import Camera, Frame, Pose, Scan, Sweep, View

K_COLOUR = np.array([[528.5, 0, 321.4], [0, 528.5, 238.2], [0, 0, 1]])
T_COLOUR_DEPTH = np.eye(4)
T_COLOUR_DEPTH[0, 3] = -0.0249
"""Intrinsics of the colour camera, and where the depth camera is in its frame (metres): both measured by aligning edges
of 25 frames of RedKitchen, where they then agree within 2 pixels."""
_DEPTH_FOCUS, _DEPTH_CENTRE = 585.0, (320.0, 240.0)
_RANGE = (0.2, 8.0)  # metres; 65535 mm, nothing measured, is beyond
_INTERVAL = 33_333_333  # nanoseconds, of 30 images a second
_REMEDY = "Unpack the sequence's archive (seq-01.zip) anew"


class SevenScenes(FrameSource):
    """A sequence. stride: of the depth image's rows and columns that become points; images: False leaves views out.

    Points have no intensity (0), frames no labels. Raises DatasetError that lists all missing files.
    """

    def __init__(self, root: str | Path, stride: int = 4, images: bool = True) -> None:
        self.root, self.stride, self.images = Path(root), stride, images
        self._stems = sequence(self.root)
        kinds = ["depth image"] + ["colour image"] * images
        problems = [] if self._stems else ["frame-*.pose.txt: none"]
        for stem in self._stems:
            found = (depth_file(self.root, stem), colour_file(self.root, stem) if images else None)
            problems += [f"{stem}: no {kind}" for kind, path in zip(kinds, found, strict=False) if path is None]
        require(self.root, problems, _REMEDY)
        self.sequences = (self.root.name,)

    def __len__(self) -> int:
        return len(self._stems)

    def frame(self, index: int) -> Frame:
        stem = self._stems[index]
        T_world_depth, stamp = pose(self.root, stem), int(stem.rpartition("-")[2]) * _INTERVAL
        path = depth_file(self.root, stem)
        assert path is not None
        xyz = depth_points(path, self.stride).astype(np.float32)
        scan = Scan(xyz, np.zeros(len(xyz), np.float32), stamp)
        views = (colour_view(self.root, stem, stamp),) if self.images else ()
        return Frame(stem, (Sweep(scan, T_world_depth),), views)


def sequence(root: Path) -> list[str]:
    """Names of the frames, in order."""
    return [file.name.removesuffix(".pose.txt") for file in sorted(root.glob("frame-*.pose.txt"))]


def pose(root: Path, stem: str) -> Pose:
    """T_world_depth. Raises TransformError, DatasetError."""
    try:
        return rigid(np.loadtxt(root / f"{stem}.pose.txt"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{root / stem}.pose.txt cannot be read ({error})", _REMEDY) from error


def colour_file(root: Path, stem: str) -> Path | None:
    """As the data set has it, or smaller."""
    pictures = (root / f"{stem}.color{suffix}" for suffix in (".jpg", ".png"))
    return next((path for path in pictures if path.is_file()), None)


def depth_file(root: Path, stem: str) -> Path | None:
    """The depth image, if it is there."""
    path = root / f"{stem}.depth.png"
    return path if path.is_file() else None


def colour_view(root: Path, stem: str, stamp: int = 0) -> View:
    """The colour image from where it was taken. Raises DatasetError, ImageError, TransformError."""
    picture = colour_file(root, stem)
    if picture is None:
        raise DatasetError(f"{root} has a pose but no image of {stem}", f"Restore {stem}.color.jpg")
    image = read_image(picture)
    camera = Camera("kinect", image.shape[1], image.shape[0], K_COLOUR)
    return View(camera, pose(root, stem) @ invert(T_COLOUR_DEPTH), image, stamp)


def depth_points(path: Path, stride: int = 1) -> Float64[np.ndarray, "n 3"]:
    """Points in the depth camera's frame, metres. Raises DatasetError."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise DatasetError(f"{path} cannot be read", _REMEDY)
    depth = np.zeros(stored.shape, np.float64)
    depth[::stride, ::stride] = stored[::stride, ::stride] / 1000.0
    v, u = np.nonzero((depth > _RANGE[0]) & (depth < _RANGE[1]))
    z = depth[v, u]
    centre = np.array(_DEPTH_CENTRE)
    return np.column_stack([(np.column_stack([u, v]) - centre) / _DEPTH_FOCUS * z[:, None], z])
