"""ScanNet (Dai et al., 2017): rooms as labelled meshes, and the RGB-D images that they were made of.

    root/scans/scene0000_00/scene0000_00_vh_clean_2.ply, scene0000_00_vh_clean_2.labels.ply
    root/scans/scene0000_00/scene0000_00.sens       or, as SensReader exports it:
    root/scans/scene0000_00/{color/0.jpg, depth/0.png, pose/0.txt, intrinsic/intrinsic_color.txt}
    root/scannetv2_{train,val,test}.txt             lists of scenes, from the ScanNet repository

A frame is a room: the mesh's vertices are its cloud (z is up), every n-th image a view with measured depth. Colour and
depth are registered, so no extrinsic matrix is applied. ``scans_test`` is looked into as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int32

from ov3d_perception.datasets.images import read_image
from ov3d_perception.datasets.sens import SensFile, SensFrame
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import DatasetError, ImageError, PointCloudError
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import Camera, Frame, Pose, Scan, Sweep, View

_FOLDERS = ("scans", "scans_test")
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_SEE = "See https://github.com/ScanNet/ScanNet for the layout and the lists of scenes"
_MILLIMETRES = 1000.0


class ScanNet(FrameSource):
    """Rooms of a split, or those that are named.

    root: the folder that holds ``scans``. split: ``train``, ``val`` or ``test``, by the lists in ``root``; scenes:
    their names instead; neither: all that are there. every: take each n-th image (OpenScene: 20). height: of the views,
    pixels; smaller images stay as they are. labelset: classes over NYU40's ids. labels, images: False leaves them out.

    A point's intensity is the brightness of its vertex, 0 to 1. Raises DatasetError that lists all missing files.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        scenes: Sequence[str] | None = None,
        every: int = 20,
        height: int = 480,
        labelset: str = "scannet20",
        labels: bool = True,
        images: bool = True,
    ) -> None:
        self.root, self.every, self.height, self.labels = Path(root), every, height, labels
        self.labelset: LabelSet = LabelSet.load(labelset)
        if every < 1:
            raise DatasetError(f"every is {every}", "Give 1 or more")
        names = list(scenes) if scenes is not None else self._listed(split)
        problems = [] if names else ["scans/*/: no scene folder"]
        self._folders = [self._folder(name) for name in names]
        self._images: list[_Images | None] = []
        for name, folder in zip(names, self._folders, strict=True):
            place = folder.relative_to(self.root)
            files = [f"{name}_vh_clean_2.ply"] + [f"{name}_vh_clean_2.labels.ply"] * labels
            problems += [f"{place}/{file}: missing" for file in files if not (folder / file).is_file()]
            self._images.append(_images(folder, problems, self.root) if images else None)
        require(self.root, problems, _SEE)
        self.sequences = tuple(names)

    def __len__(self) -> int:
        return len(self._folders)

    def frame(self, index: int) -> Frame:
        name, folder = self.sequences[index], self._folders[index]
        xyz, colour, _ = _vertices(folder / f"{name}_vh_clean_2.ply")
        labels: Int32[np.ndarray, " n"] | None = None
        if self.labels:
            path = folder / f"{name}_vh_clean_2.labels.ply"
            raw = _vertices(path)[2]
            if raw is None or len(raw) != len(xyz):
                raise PointCloudError(f"{path} has no label for each of {len(xyz)} vertices", "Download it again")
            labels = self.labelset.map(raw)
        finite = np.isfinite(xyz).all(1)
        if not finite.all():
            self.leave_out("vertices that are not finite", name, int((~finite).sum()))
            xyz, colour, labels = xyz[finite], colour[finite], None if labels is None else labels[finite]
        scan = Scan(xyz, colour @ _LUMINANCE / 255, 0)
        return Frame(name, (Sweep(scan, np.eye(4)),), tuple(self._views(index)), labels)

    def _views(self, index: int) -> Iterator[View]:
        images = self._images[index]
        if images is None:
            return
        for number in range(0, len(images), self.every):
            try:
                taken = images.frame(number)
            except ImageError as error:
                self.leave_out("damaged images", error)
                continue
            if not np.isfinite(taken.T_world_camera).all():
                self.leave_out("images without a pose", f"{self.sequences[index]}, image {number}")
                continue
            yield _view(images.K, taken, self.height)

    def _listed(self, split: str | None) -> list[str]:
        if split is None:
            return sorted(path.name for folder in _FOLDERS for path in (self.root / folder).glob("*") if path.is_dir())
        path = self.root / f"scannetv2_{split}.txt"
        if not path.is_file():
            raise DatasetError(f"There is no {path}, which lists the scenes of the split {split!r}", _SEE)
        return path.read_text().split()

    def _folder(self, name: str) -> Path:
        found = [self.root / folder / name for folder in _FOLDERS if (self.root / folder / name).is_dir()]
        return found[0] if found else self.root / _FOLDERS[0] / name


class _Images(ABC):
    """The images of a room, however they are stored. K: of the colour images."""

    K: Float64[np.ndarray, "3 3"]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def frame(self, index: int) -> SensFrame:
        """Raises ImageError."""


class _Packed(_Images):
    """In a ``.sens`` file."""

    def __init__(self, path: Path) -> None:
        self._file = SensFile(path)
        self.K = self._file.calibration.K_color

    def __len__(self) -> int:
        return len(self._file)

    def frame(self, index: int) -> SensFrame:
        return self._file.frame(index)


class _Exported(_Images):
    """In folders, as SensReader exports them. Raises ValueError, OSError where the calibration cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stems = sorted(
            (path.stem for path in (folder / "color").glob("*.jpg")), key=lambda stem: (len(stem), stem)
        )
        self.K = np.loadtxt(folder / "intrinsic" / "intrinsic_color.txt").reshape(4, 4)[:3, :3]

    def __len__(self) -> int:
        return len(self._stems)

    def frame(self, index: int) -> SensFrame:
        stem = self._stems[index]
        path = self._folder / "depth" / f"{stem}.png"
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if depth is None or depth.dtype != np.uint16:
            raise ImageError(f"{path} is no depth image of 16 bits", "Export it again")
        try:
            pose: Pose = np.loadtxt(self._folder / "pose" / f"{stem}.txt").reshape(4, 4)
        except (OSError, ValueError) as error:
            raise ImageError(
                f"{self._folder / 'pose' / stem}.txt cannot be read ({error})", "Export it again"
            ) from error
        return SensFrame(read_image(self._folder / "color" / f"{stem}.jpg"), depth / np.float32(_MILLIMETRES), pose)


def _images(folder: Path, problems: list[str], root: Path) -> _Images | None:
    place, packed = folder.relative_to(root), folder / f"{folder.name}.sens"
    try:
        if packed.is_file():
            return _Packed(packed)
        if (folder / "color").is_dir():
            return _Exported(folder)
        problems.append(f"{place}/{packed.name}, {place}/color/: neither is there")
    except (DatasetError, OSError, ValueError) as error:
        problems.append(f"{place}: {error}")
    return None


def _vertices(
    path: Path,
) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3"], Int32[np.ndarray, " n"] | None]:
    """Places, colours (0 to 255), and labels where the file has them. Raises PointCloudError."""
    from plyfile import PlyData, PlyParseError

    try:
        vertices = PlyData.read(str(path), known_list_len={"face": {"vertex_indices": 3}})["vertex"].data
        xyz, colour = (
            np.stack([vertices[name] for name in names], axis=1).astype(np.float32)
            for names in (("x", "y", "z"), ("red", "green", "blue"))
        )
    except (OSError, PlyParseError, KeyError, ValueError) as error:
        raise PointCloudError(f"{path} cannot be read ({error})", "Download it again") from error
    labelled = "label" in (vertices.dtype.names or ())
    return xyz, colour, vertices["label"].astype(np.int32) if labelled else None


def _view(K: Float64[np.ndarray, "3 3"], taken: SensFrame, height: int) -> View:
    """A view at most ``height`` pixels high. Pixel centres are whole numbers: 0.5 is added before scaling."""
    image = taken.color
    scale = min(1.0, height / image.shape[0])
    if scale < 1.0:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        by = np.array([size[0] / image.shape[1], size[1] / image.shape[0]])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        K = K.copy()
        K[:2, 2] = (K[:2, 2] + 0.5) * by - 0.5
        K[0, 0], K[1, 1] = K[0, 0] * by[0], K[1, 1] * by[1]
    camera = Camera("color", image.shape[1], image.shape[0], K)
    return View(camera, taken.T_world_camera, image, 0, taken.depth)
