"""Clouds for other programs, read back by parsers that share nothing with the writer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.clouds.write import write_cloud
from ov3d_perception.errors import MapFileError, PointCloudError

XYZ = np.float32([[1.5, -2, 0.25], [1e-3, 4e5, -7], [0, 0, 0]])
RGB = np.uint8([[255, 0, 1], [2, 128, 3], [9, 8, 7]])
COLUMNS = {
    "label": np.uint32([7, 0, 4_000_000_000]),
    "p_car": np.float32([0.5, 1, 1e-9]),
    "scans": np.uint8([1, 2, 255]),
}
_PLY = {"float": "<f4", "double": "<f8", "uchar": "u1", "char": "i1", "ushort": "<u2", "uint": "<u4", "int": "<i4"}


def read_ply(path: Path) -> np.ndarray:
    """After the format's description: header lines up to end_header, then the vertices without gaps."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    (count,) = (int(line.split()[2]) for line in lines if line.startswith("element vertex "))
    properties = [line.split()[1:] for line in lines if line.startswith("property ")]
    kind = np.dtype([(name, _PLY[word]) for word, name in properties])
    assert len(body) == count * kind.itemsize
    return np.frombuffer(body, kind)


def read_pcd(path: Path) -> np.ndarray:
    """As PCL does: FIELDS, SIZE, TYPE and COUNT by line; POINTS records follow ``DATA binary``."""
    head, _, body = path.read_bytes().partition(b"DATA binary\n")
    lines = [line for line in head.decode("ascii").splitlines() if not line.startswith("#")]
    entries = {line.split()[0]: line.split()[1:] for line in lines}
    assert list(entries) == ["VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS"]
    assert entries["VERSION"] == ["0.7"] and set(entries["COUNT"]) == {"1"}
    kind = np.dtype(
        [(n, f"<{t.lower()}{s}") for n, s, t in zip(*(entries[k] for k in ("FIELDS", "SIZE", "TYPE")), strict=True)]
    )
    count = int(entries["POINTS"][0])
    assert count == int(entries["WIDTH"][0]) * int(entries["HEIGHT"][0]) and len(body) == count * kind.itemsize
    return np.frombuffer(body, kind)


def test_ply(tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.ply", XYZ, RGB, COLUMNS, ("label 7\ncar",))
    points = read_ply(tmp_path / "a.ply")
    assert points.dtype.names == ("x", "y", "z", "red", "green", "blue", "label", "p_car", "scans")
    np.testing.assert_array_equal(np.stack([points[axis] for axis in "xyz"], 1), XYZ)
    np.testing.assert_array_equal(np.stack([points[c] for c in ("red", "green", "blue")], 1), RGB)
    for name, values in COLUMNS.items():
        np.testing.assert_array_equal(points[name], values)
    assert b"\ncomment label 7 car\n" in (tmp_path / "a.ply").read_bytes(), "on one line"


@pytest.mark.parametrize(("name", "read"), [("a.ply", read_ply), ("a.pcd", read_pcd)])
def test_a_header_is_ascii_whatever_the_labels_are_called(
    name: str, read: Callable[[Path], np.ndarray], tmp_path: Path
) -> None:
    write_cloud(tmp_path / name, XYZ, RGB, COLUMNS, ("label 7 Müllwagen",))
    assert len(read(tmp_path / name)) == 3
    assert rb"label 7 M\xfcllwagen" in (tmp_path / name).read_bytes()
    with pytest.raises(PointCloudError, match="named plainly"):
        write_cloud(tmp_path / name, XYZ, RGB, {"p_Müllwagen": COLUMNS["p_car"]})


def test_ply_as_trimesh_reads_it(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed: pip install '.[sim]'")
    write_cloud(tmp_path / "a.ply", XYZ, RGB, COLUMNS)
    cloud = trimesh.load(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.vertices.astype(np.float32), XYZ)
    np.testing.assert_array_equal(np.asarray(cloud.colors)[:, :3], RGB)


def test_pcd(tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.pcd", XYZ, RGB, COLUMNS, ("of a test",))
    points = read_pcd(tmp_path / "a.pcd")
    assert points.dtype.names == ("x", "y", "z", "rgb", "label", "p_car", "scans")
    np.testing.assert_array_equal(np.stack([points[axis] for axis in "xyz"], 1), XYZ)
    packed = points["rgb"].view(np.uint32)
    np.testing.assert_array_equal(np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], 1), RGB)
    for name, values in COLUMNS.items():
        np.testing.assert_array_equal(points[name], values)


@pytest.mark.parametrize("viewpoint", [(0, 0, 0, 1, 0, 0, 0), (431000.125, 0.1, -3, 0.6, 0, 0, -0.8)])
def test_the_viewpoint_of_a_pcd(viewpoint: tuple[float, ...], tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.pcd", XYZ, RGB, COLUMNS, viewpoint=viewpoint)
    assert len(read_pcd(tmp_path / "a.pcd")) == 3
    lines = (tmp_path / "a.pcd").read_bytes().split(b"DATA")[0].decode("ascii").splitlines()
    (said,) = (line.split()[1:] for line in lines if line.startswith("VIEWPOINT "))
    assert tuple(map(float, said)) == viewpoint


@pytest.mark.parametrize("ending", ["ply", "pcd"])
def test_no_points_are_a_cloud_too(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    write_cloud(path, XYZ[:0], RGB[:0], {})
    assert len(read_ply(path) if ending == "ply" else read_pcd(path)) == 0


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MapFileError, match=re.escape("End it with .ply, .pcd or .png")):
        write_cloud(tmp_path / "a.las", XYZ, RGB, {})
    for columns in ({"short": np.zeros(2)}, {"two words": np.zeros(3)}):
        with pytest.raises(PointCloudError, match="not columns of 3"):
            write_cloud(tmp_path / "a.ply", XYZ, RGB, columns)
    with pytest.raises(PointCloudError, match=r"ends with \.ply"):
        write_cloud(tmp_path / "a.pcd", XYZ.astype(np.float64), RGB, COLUMNS)
    assert list(tmp_path.iterdir()) == []


def test_ply_keeps_geographic_coordinates(tmp_path: Path) -> None:
    utm = np.array([[500123.4567, 5300123.4567, 12.3456]])
    write_cloud(tmp_path / "a.ply", utm, RGB[:1], {})
    points = read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(np.stack([points[axis] for axis in "xyz"], 1), utm)
