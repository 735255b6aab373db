"""Clouds for other programs: PLY and PCD, binary little-endian, as Open3D, PCL, CloudCompare and MeshLab read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8

from ov3d_perception.clouds.read import UNMOVED
from ov3d_perception.errors import MapFileError, PointCloudError
from ov3d_perception.files import replacing

_PLY_TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "i1": "char", "u2": "ushort", "i2": "short"}
_PLY_TYPES |= {"u4": "uint", "i4": "int"}
_PCD_KINDS = {"f": "F", "u": "U", "i": "I"}
FORMATS = (".ply", ".pcd")


def write_cloud(
    path: Path | str,
    xyz: Float[np.ndarray, "n 3"],
    rgb: UInt8[np.ndarray, "n 3"],
    columns: Mapping[str, np.ndarray],
    comments: tuple[str, ...] = (),
    viewpoint: tuple[float, ...] = UNMOVED,
) -> None:
    """Points with colours and further columns of numbers, in the format that the name ends with.

    xyz: metres; of double precision in PLY only. PLY holds the colour as ``red green blue``, PCD as PCL's packed
    ``rgb``. viewpoint: of a PCD, as CloudFile has it; PLY has no place for one. Headers are ASCII, since readers of
    PLY refuse more: other letters of the comments are written as escapes.
    Raises MapFileError for a name with another ending, PointCloudError for what does not fit, WriteError.
    """
    path, named = Path(path), {name: np.asarray(values) for name, values in columns.items()}
    wrong = [
        name
        for name, values in named.items()
        if values.shape != (len(xyz),) or not (name.isidentifier() and name.isascii())
    ]
    if wrong:
        raise PointCloudError(
            f"{wrong} are not columns of {len(xyz)} numbers", "Give one number a point, named plainly"
        )
    if xyz.dtype == np.float64 and path.suffix.lower() == ".pcd":
        raise PointCloudError(
            f"{path} would hold geographic coordinates in double precision, which Open3D reads as zeros",
            "Write a file that ends with .ply",
        )
    x, y, z = xyz.T
    if path.suffix.lower() == ".ply":
        red, green, blue = rgb.T
        table = _table({"x": x, "y": y, "z": z, "red": red, "green": green, "blue": blue, **named})
        header = _ply_header(table, comments)
    elif path.suffix.lower() == ".pcd":
        table = _table({"x": x, "y": y, "z": z, "rgb": _packed(rgb), **named})
        header = _pcd_header(table, comments, viewpoint)
    else:
        raise MapFileError(f"{path} has no ending that says what to write", f"End it with {', '.join(FORMATS)} or .png")
    with replacing(path) as file:
        file.write(header.encode("ascii", "backslashreplace"))
        file.write(table.tobytes())


def _table(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """One record a point, without gaps."""
    kinds = [(name, values.dtype.newbyteorder("<")) for name, values in columns.items()]
    table = np.empty(len(columns["x"]), kinds)
    for name, values in columns.items():
        table[name] = values
    return table


def _packed(rgb: UInt8[np.ndarray, "n 3"]) -> Float32[np.ndarray, " n"]:
    """0x00RRGGBB in the bits of a float, as PCL keeps it."""
    red, green, blue = rgb.astype(np.uint32).T
    return (red << 16 | green << 8 | blue).view(np.float32)


def _ply_header(table: np.ndarray, comments: tuple[str, ...]) -> str:
    """http://paulbourke.net/dataformats/ply/"""
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {_line(text)}" for text in comments)]
    lines.append(f"element vertex {len(table)}")
    lines += [f"property {_PLY_TYPES[kind.str[1:]]} {name}" for name, kind in _kinds(table)]
    return "\n".join([*lines, "end_header", ""])


def _pcd_header(table: np.ndarray, comments: tuple[str, ...], viewpoint: tuple[float, ...]) -> str:
    """https://pointclouds.org/documentation/tutorials/pcd_file_format.html"""
    kinds = _kinds(table)
    lines = [
        *(f"# {_line(text)}" for text in comments),
        "VERSION 0.7",
        "FIELDS " + " ".join(name for name, _ in kinds),
        "SIZE " + " ".join(str(kind.itemsize) for _, kind in kinds),
        "TYPE " + " ".join(_PCD_KINDS[kind.kind] for _, kind in kinds),
        "COUNT " + " ".join("1" for _ in kinds),
        f"WIDTH {len(table)}",
        "HEIGHT 1",
        "VIEWPOINT " + " ".join(f"{value:.15g}" for value in viewpoint),
        f"POINTS {len(table)}",
        "DATA binary",
    ]
    return "\n".join([*lines, ""])


def _kinds(table: np.ndarray) -> list[tuple[str, np.dtype]]:
    names = table.dtype.names or ()
    return [(name, table.dtype[name]) for name in names]


def _line(text: str) -> str:
    return " ".join(text.split())
