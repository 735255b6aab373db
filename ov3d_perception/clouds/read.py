"""Read a cloud of another program: PCD, PLY, LAS or LAZ, KITTI's and nuScenes' .bin, numpy's .npy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from ov3d_perception.bags.pointcloud2 import INTENSITY_FIELDS
from ov3d_perception.errors import PointCloudError

_FAR = 1e5
"""Metres. Coordinates beyond are geographic (UTM, say): float32 would round them to centimetres."""

_OTHER_INTENSITIES = ("scalar_intensity", "reflectance", "i")
"""CloudCompare's name in PLY, and others that stand beside :data:`INTENSITY_FIELDS` in files."""

_MOST_COLUMNS = 32
"""Of an array without names; more are points in columns (nuScenes' devkit has them so)."""

_MOST_LINE_ENDS = 3
"""Bytes after the data of a binary PLY from which on they are no line end."""

_MOST_NEGATIVE = 0.01
"""Share of a .bin's intensities; where more are below 0 they are coordinates, read by another layout than written."""

UNMOVED = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
"""The viewpoint of a cloud that says none."""

_LAS_NAN = -(2**31)
"""What laspy stores for a coordinate that is NaN: LAS has integers only."""


@dataclass(frozen=True)
class CloudFile:
    """Every point of a file, in its order; rows that hold no point (NaN) included.

    xyz: metres, less ``offset``. intensity: as the file has it, None where it has none. offset: metres, not zero for
    geographic coordinates only; add it to return to the file's own coordinates. viewpoint: of a PCD, x y z and the
    quaternion w x y z; the points are not moved by it, but pcl_viewer and CloudCompare show them so.
    """

    xyz: Float32[np.ndarray, "n 3"]
    intensity: Float32[np.ndarray, " n"] | None
    offset: Float64[np.ndarray, " 3"]
    viewpoint: tuple[float, ...] = UNMOVED

    @property
    def points(self) -> np.ndarray:
        """(n, 4) x y z intensity, or (n, 3) where the file has no intensity."""
        return self.xyz if self.intensity is None else np.column_stack([self.xyz, self.intensity])


def read_cloud(path: str | Path) -> CloudFile:
    """Read the file by its ending, one of :data:`READERS`.

    Raises PointCloudError: no such file, an unknown ending, damage, a library that is missing, no x y z.
    """
    path = Path(path)
    reader = next((read for ending, read in READERS.items() if path.name.lower().endswith(ending)), None)
    if reader is None:
        raise PointCloudError(f"{path} has no ending of a point cloud", f"Give a file of {', '.join(READERS)}")
    if not path.is_file():
        raise PointCloudError(f"There is no file {path}", "Check the path")
    try:
        columns = reader(path)
    except PointCloudError:
        raise
    except ImportError as error:
        raise PointCloudError(f"Reading {path} needs {error.name}", f"pip install {error.name}") from error
    except Exception as error:  # each library has its own kinds for a damaged file
        raise PointCloudError(f"{path} cannot be read ({error or type(error).__name__})", "Write it anew") from error
    cloud = _cloud(path, {name.lower(): np.asarray(values) for name, values in columns.items()})
    return replace(cloud, viewpoint=_viewpoint(path)) if reader is _pcd else cloud


def _cloud(path: Path, columns: dict[str, np.ndarray]) -> CloudFile:
    if missing := [axis for axis in "xyz" if axis not in columns]:
        raise PointCloudError(f"{path} has the fields {', '.join(columns)}, without {missing}", "Export x, y and z")
    if words := [name for name, values in columns.items() if name in set("xyz") and values.dtype.kind not in "fiu"]:
        raise PointCloudError(f"{path} has {', '.join(words)} that are no numbers", "Export x, y and z as numbers")
    xyz = np.stack([columns[axis] for axis in "xyz"], 1)
    offset = np.zeros(3)
    finite = np.isfinite(xyz).all(1)
    if finite.any() and xyz.dtype == np.float64:
        far = np.abs(xyz[finite]).max(0) > _FAR
        offset = np.where(far, np.floor(np.median(xyz[finite], axis=0)), 0.0)  # heights stay: the network reads them
        xyz = xyz - offset
    name = next((name for name in (*INTENSITY_FIELDS, *_OTHER_INTENSITIES) if name in columns), None)
    return CloudFile(xyz.astype(np.float32), None if name is None else columns[name].astype(np.float32), offset)


def _pcd(path: Path) -> dict[str, np.ndarray]:
    from pypcd4 import PointCloud

    cloud = PointCloud.from_path(path)
    data = np.atleast_1d(cloud.pc_data)  # a single point of text comes without an axis
    if len(data) != cloud.metadata.points:
        raise PointCloudError(
            f"{path} was cut short: it holds {len(data)} of the {cloud.metadata.points} points of its header",
            "Copy it again; what is there can be read with POINTS, WIDTH and HEIGHT set to it",
        )
    said = cloud.metadata
    if said.width * said.height != said.points:
        raise PointCloudError(
            f"{path} has {said.points} POINTS and WIDTH {said.width} times HEIGHT {said.height}: some may be none",
            "Write it anew from its source (pypcd4 takes the padding of a message's rows for points)",
        )
    return {name: data[name] for name in data.dtype.names or ()}


def _viewpoint(path: Path) -> tuple[float, ...]:
    """Of a PCD that could be read."""
    from pypcd4 import MetaData

    lines: list[str] = []
    with path.open("rb") as file:
        for line in file:
            lines.append(line.decode(errors="replace").strip())
            if lines[-1].upper().startswith("DATA"):
                break
    return tuple(MetaData.parse_header(lines).viewpoint)


def _ply(path: Path) -> dict[str, np.ndarray]:
    from plyfile import PlyData

    with path.open("rb") as file:
        data = PlyData.read(file)
        left = 0 if data.text else path.stat().st_size - file.tell()
    if "vertex" not in data:
        raise PointCloudError(f"{path} has no vertices", "Export points, not only faces")
    vertices = data["vertex"].data
    if left >= max(len(vertices), _MOST_LINE_ENDS):
        raise PointCloudError(
            f"{path} has {left} bytes more than its header says: its points are of wider types, and read as others",
            "Write it anew with another program (pyntcloud calls every integer without a sign 'uchar')",
        )
    return {name: vertices[name] for name in vertices.dtype.names or ()}


def _las(path: Path) -> dict[str, np.ndarray]:
    import laspy

    try:
        las = laspy.read(path)
    except laspy.errors.LaspyException as error:
        if "backend" not in str(error).lower():
            raise
        raise PointCloudError(f"{path} is compressed", "pip install 'laspy[lazrs]', or save it as .las") from error
    xyz = np.asarray(las.xyz, np.float64)
    xyz[(np.stack([las.X, las.Y, las.Z], 1) == _LAS_NAN).all(1)] = np.nan
    intensity = np.asarray(las.intensity, np.float32)
    largest = float(intensity.max(initial=0.0))
    return {
        **dict(zip("xyz", xyz.T, strict=True)),
        "intensity": intensity / (65535.0 if largest > 255.0 else 255.0),  # 16 bits by the format, 8 in practice
    }


def _bin(columns: int) -> Callable[[Path], dict[str, np.ndarray]]:
    def read(path: Path) -> dict[str, np.ndarray]:
        values = np.fromfile(path, np.float32)
        if path.stat().st_size % (4 * columns):
            raise PointCloudError(
                f"{path} has {path.stat().st_size} bytes, no multiple of {4 * columns}",
                f"The ending stands for {columns} float32 a point; save other layouts as .npy",
            )
        x, y, z, intensity = values.reshape(-1, columns).T[:4]
        if np.count_nonzero(intensity < 0.0) > _MOST_NEGATIVE * len(intensity):
            raise PointCloudError(
                f"{path} does not hold {columns} float32 a point, as its ending says: so read, intensities are below 0",
                "Name nuScenes' files (5 float32 a point) .pcd.bin and KITTI's (4) .bin; save other layouts as .npy",
            )
        return {"x": x, "y": y, "z": z, "intensity": intensity}

    return read


def _npy(path: Path) -> dict[str, np.ndarray]:
    values: Any = np.load(path, allow_pickle=False)
    if values.dtype.names:
        return {name: values[name].reshape(-1) for name in values.dtype.names}
    if values.ndim != 2 or values.shape[1] < 3 or values.shape[1] > _MOST_COLUMNS:
        raise PointCloudError(
            f"{path} holds an array of shape {values.shape}",
            "Save (n, 3) or (n, 4): x y z intensity, a row a point",
        )
    return dict(zip(("x", "y", "z", "intensity"), values.T[:4], strict=False))


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".pcd.bin": _bin(5),
    ".bin": _bin(4),
    ".pcd": _pcd,
    ".ply": _ply,
    ".las": _las,
    ".laz": _las,
    ".npy": _npy,
}
"""How a file of each ending becomes columns by name. ``.pcd.bin`` is nuScenes' (x y z intensity ring)."""
