"""Clouds of other programs: written by their own libraries, read back, and refused where they are damaged."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from real_data import data_dir

from ov3d_perception.clouds.read import READERS, read_cloud
from ov3d_perception.errors import PointCloudError

laspy = pytest.importorskip("laspy")
plyfile = pytest.importorskip("plyfile")
pypcd4 = pytest.importorskip("pypcd4")

POINTS = np.float32([[1.5, -2.0, 0.25, 0.0], [np.nan, np.nan, np.nan, 0.0], [-30.0, 4.0, -1.0, 200.0]])


def write_pcd(encoding: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        cloud = pypcd4.PointCloud.from_xyzi_points(POINTS)
        cloud.save(folder / "a.pcd", encoding=pypcd4.Encoding(encoding))
        return folder / "a.pcd"

    return write


def write_ply(text: bool, intensity: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        rows = np.array([tuple(row) for row in POINTS], [(name, "f4") for name in ("x", "y", "z", intensity)])
        plyfile.PlyData([plyfile.PlyElement.describe(rows, "vertex")], text=text).write(str(folder / "a.ply"))
        return folder / "a.ply"

    return write


def write_array(name: str, values: np.ndarray) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        if name.endswith(".npy"):
            np.save(folder / name, values)
        else:
            values.astype(np.float32).tofile(folder / name)
        return folder / name

    return write


STRUCTURED = np.array([tuple(row) for row in POINTS], [(name, "f4") for name in ("x", "y", "z", "intensity")])


@pytest.mark.parametrize(
    "write",
    [
        write_pcd("ascii"),
        write_pcd("binary"),
        write_pcd("binary_compressed"),
        write_ply(True, "intensity"),
        write_ply(False, "scalar_Intensity"),
        write_array("a.npy", POINTS.astype(np.float64)),
        write_array("b.npy", STRUCTURED),
        write_array("a.bin", POINTS),
        write_array("a.pcd.bin", np.column_stack([POINTS, [7, 8, 9]])),
    ],
)
def test_every_format_gives_all_points_in_order(write: Callable[[Path], Path], tmp_path: Path) -> None:
    cloud = read_cloud(write(tmp_path))
    np.testing.assert_array_equal(cloud.points, POINTS)
    assert cloud.points.dtype == np.float32
    assert not cloud.offset.any()


def test_without_intensity(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS[:, :3])
    cloud = read_cloud(tmp_path / "a.npy")
    assert cloud.intensity is None
    np.testing.assert_array_equal(cloud.points, POINTS[:, :3])


@pytest.mark.parametrize(("raw", "seen"), [([0, 255], [0, 1]), ([0, 65535], [0, 1])])
def test_las_of_a_survey_keeps_millimetres_and_has_intensity_to_one(
    raw: list[int], seen: list[float], tmp_path: Path
) -> None:
    """UTM coordinates: float32 alone would be off by a quarter of a metre in the north."""
    las = laspy.create(point_format=0)
    las.header.scales, las.header.offsets = [0.001] * 3, [4e5, 5e6, 0]
    true = np.array([[400_000.123, 5_000_000.456, 1.5], [400_010.001, 5_000_020.002, 2.5]])
    las.x, las.y, las.z = true.T
    las.intensity = raw
    las.write(tmp_path / "a.las")
    cloud = read_cloud(tmp_path / "a.las")
    np.testing.assert_allclose(cloud.xyz + cloud.offset, true, atol=1e-4)
    np.testing.assert_allclose(cloud.intensity, seen)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_missing_returns_of_a_las_file_are_nan_and_move_no_other_point(tmp_path: Path) -> None:
    """laspy stores NaN as the smallest integer, thousands of kilometres away."""
    las = laspy.create(point_format=0)
    las.header.scales, las.header.offsets = [0.001] * 3, [0, 0, 0]
    las.x, las.y, las.z = POINTS[:, :3].T.astype(np.float64)
    las.write(tmp_path / "a.las")
    cloud = read_cloud(tmp_path / "a.las")
    np.testing.assert_allclose(cloud.xyz, POINTS[:, :3], atol=1e-3)
    np.testing.assert_array_equal(cloud.offset, np.zeros(3))


@pytest.mark.parametrize("ending", list(READERS))
def test_a_damaged_file_is_one_line_that_names_it(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut{ending}"
    path.write_bytes(b"nothing")
    with pytest.raises(PointCloudError, match=f"cut{ending}"):
        read_cloud(path)


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_a_pcd_file_that_was_cut_short_is_refused(encoding: str, tmp_path: Path) -> None:
    """A full disk leaves whole points less than the header says, which pypcd4 reads without a word."""
    path = write_pcd(encoding)(tmp_path)
    head, _, body = path.read_bytes().partition(b"DATA " + encoding.encode() + b"\n")
    rest = body.splitlines(True)[0] if encoding == "ascii" else body[:16]
    path.write_bytes(head + b"DATA " + encoding.encode() + b"\n" + rest)
    with pytest.raises(PointCloudError, match="cut short: it holds 1 of the 3 points"):
        read_cloud(path)


@pytest.mark.parametrize(("after", "refused"), [(b"", False), (b"\r\n", False), (b"\0" * 3, True)])
def test_a_ply_file_with_more_bytes_than_its_header_says_is_refused(
    after: bytes, refused: bool, tmp_path: Path
) -> None:
    """pyntcloud writes a 16-bit intensity and calls it "uchar": what follows is read as other numbers."""
    path = write_ply(False, "intensity")(tmp_path)
    path.write_bytes(path.read_bytes() + after)
    if not refused:
        np.testing.assert_array_equal(read_cloud(path).points, POINTS)
        return
    with pytest.raises(PointCloudError, match="3 bytes more than its header says"):
        read_cloud(path)


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_a_pcd_file_with_more_points_than_rows_of_its_width_is_refused(encoding: str, tmp_path: Path) -> None:
    """pypcd4 takes the padding of an organised message's rows for points, and keeps the message's width and height."""
    path = write_pcd(encoding)(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"WIDTH 3", b"WIDTH 2"))
    with pytest.raises(PointCloudError, match="3 POINTS and WIDTH 2 times HEIGHT 1"):
        read_cloud(path)


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_the_viewpoint_of_a_pcd_is_told_and_moves_no_point(encoding: str, tmp_path: Path) -> None:
    path = write_pcd(encoding)(tmp_path)
    assert read_cloud(path).viewpoint == (0, 0, 0, 1, 0, 0, 0)
    path.write_bytes(re.sub(rb"VIEWPOINT [^\n]*", b"VIEWPOINT 1 -2.5 3e2 0.6 0 0 -0.8", path.read_bytes()))
    cloud = read_cloud(path)
    assert cloud.viewpoint == (1, -2.5, 300, 0.6, 0, 0, -0.8)
    np.testing.assert_array_equal(cloud.points, POINTS)
    path.write_bytes(re.sub(rb"VIEWPOINT [^\n]*", b"VIEWPOINT", path.read_bytes()))
    assert read_cloud(path).viewpoint == (0, 0, 0, 1, 0, 0, 0), "nothing said"
    path.write_bytes(re.sub(rb"VIEWPOINT\n", b"", path.read_bytes()))
    assert read_cloud(path).viewpoint == (0, 0, 0, 1, 0, 0, 0), "as in version .6"


def test_one_point_of_text_is_a_cloud(tmp_path: Path) -> None:
    pypcd4.PointCloud.from_xyzi_points(POINTS[:1]).save(tmp_path / "a.pcd", encoding=pypcd4.Encoding.ASCII)
    assert read_cloud(tmp_path / "a.pcd").points.tolist() == [[1.5, -2.0, 0.25, 0.0]]


@pytest.mark.parametrize(("name", "columns"), [("a.bin", 3), ("a.bin", 5), ("a.bin", 6), ("a.pcd.bin", 4)])
def test_a_bin_of_another_layout_is_refused_though_its_size_fits(name: str, columns: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack(
        [rng.normal(0.0, 20.0, (2000, 3)), rng.uniform(0, 255, 2000), rng.integers(0, 32, (2, 2000)).T]
    )
    with pytest.raises(PointCloudError, match=r"does not hold \d float32 a point.*\.npy"):
        read_cloud(write_array(name, points[:, :columns])(tmp_path))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((4, 5000)), r"shape \(4, 5000\).*a row a point"),
        (np.array([["x", "y", "z"]]), "x, y, z that are no num"),
    ],
)
def test_an_array_of_no_points_is_refused(values: np.ndarray, said: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(PointCloudError, match=said):
        read_cloud(tmp_path / "a.npy")


def test_what_is_no_cloud(tmp_path: Path) -> None:
    with pytest.raises(PointCloudError, match="no ending of a point cloud"):
        read_cloud(tmp_path / "a.txt")
    with pytest.raises(PointCloudError, match="There is no file"):
        read_cloud(tmp_path / "a.pcd")
    np.save(tmp_path / "flat.npy", np.zeros(7))
    with pytest.raises(PointCloudError, match=r"shape \(7,\)"):
        read_cloud(tmp_path / "flat.npy")


@pytest.mark.skipif(data_dir() is None, reason="no real data: set OV3D_TEST_DATA")
@pytest.mark.parametrize(
    ("pattern", "count"),
    [("semantickitti/sequences/00/velodyne/000000.bin", 124668), ("nuscenes_keyframe/*LIDAR_TOP*.pcd.bin", 34688)],
)
def test_real_files(pattern: str, count: int) -> None:
    root = data_dir()
    assert root is not None
    (path,) = root.glob(pattern)
    cloud = read_cloud(path)
    assert len(cloud.xyz) == count
    assert cloud.intensity.min() >= 0 and cloud.intensity.max() <= 255  # type: ignore[union-attr]
