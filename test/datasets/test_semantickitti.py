"""A small hand-made sequence with known geometry, the same damaged in every way, and the real recording."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from real_data import data_dir

from ov3d_perception.datasets.semantickitti import SemanticKitti
from ov3d_perception.errors import DatasetError, ImageError, PointCloudError
from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.poses import transform
from ov3d_perception.types import UNLABELLED

# The camera looks along the LiDAR's x axis from 0.5 m above it; camera 2 is 0.2 m to the left of camera 0.
TR = "0 -1 0 0 0 0 -1 0.5 1 0 0 0"
P2 = "100 0 50 20 0 100 30 0 0 0 1 0"
POINTS = np.array([[10, 0, 0, 0.5], [10, 1, 0, 2.0], [-5, 0, 0, 0.1], [20, 0, 0.5, 0.0]], np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sequence 07, three scans, one metre forward each (camera axes: along z)."""
    folder = tmp_path / "sequences" / "07"
    for name in ("velodyne", "labels", "image_2"):
        (folder / name).mkdir(parents=True)
    for i in range(3):
        np.add(POINTS, [i, 0, 0, 0], dtype=np.float32).tofile(folder / "velodyne" / f"{i:06d}.bin")
        np.array([40, 10 | 5 << 16, 99, 48], np.uint32).tofile(folder / "labels" / f"{i:06d}.label")
        cv2.imwrite(str(folder / "image_2" / f"{i:06d}.png"), np.full((60, 100, 3), (255, 0, 0), np.uint8))
    (folder / "calib.txt").write_text(f"P0: {P2}\nP2: {P2}\nTr: {TR}\n")
    (folder / "poses.txt").write_text("".join(f"1 0 0 0 0 1 0 0 0 0 1 {i}\n" for i in range(3)))
    (folder / "times.txt").write_text("0\n0.1\n0.2\n")
    return tmp_path


def test_one_frame_by_hand(root):
    source = SemanticKitti(root)
    assert len(source) == 3 and source.sequences == ("07",)
    frame = source[0]
    assert frame.name == "07/000000" and len(frame.sweeps) == len(frame.views) == 1
    names = source.labelset.names
    np.testing.assert_array_equal(
        frame.labels, [names.index("road"), names.index("car"), UNLABELLED, names.index("sidewalk")]
    )
    np.testing.assert_allclose(frame.sweeps[0].scan.intensity, [0.5, 1.0, 0.1, 0.0])
    np.testing.assert_array_equal(frame.views[0].image[0, 0], [0, 0, 255])  # RGB
    pairs = associate(frame)
    np.testing.assert_array_equal(pairs.point, [0, 1, 3])
    # u = 50 + 100 (-y + 0.2) / x, v = 30 + 100 (0.5 - z) / x
    np.testing.assert_allclose(pairs.uv, [[52, 35], [42, 35], [51, 30]], atol=1e-4)


def test_sweeps_go_back_in_time_and_share_one_world(root):
    frame = SemanticKitti(root, sweeps=2, images=False)[2]
    assert [sweep.scan.stamp for sweep in frame.sweeps] == [200_000_000, 100_000_000] and frame.views == ()
    np.testing.assert_allclose(frame.sweeps[0].T_world_lidar[:3, 3], [2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(frame.sweeps[0].T_world_lidar[:3, :3], np.eye(3), atol=1e-12)
    now, before = (transform(s.T_world_lidar, s.scan.xyz) for s in frame.sweeps)
    np.testing.assert_allclose(now[0], [14, 0, 0], atol=1e-6)  # the hand-made points run ahead of the vehicle
    np.testing.assert_allclose(before[0], [12, 0, 0], atol=1e-6)
    assert len(SemanticKitti(root, sweeps=2)[0].sweeps) == 1


@pytest.fixture
def benchmark(root: Path) -> Path:
    """All twenty-two sequences: the hand-made one 22 times."""
    for number in range(22):
        if number != 7:
            shutil.copytree(root / "sequences" / "07", root / "sequences" / f"{number:02d}")
    return root


def test_the_benchmarks_split(benchmark):
    train, val, test = (SemanticKitti(benchmark, split=split, images=False) for split in ("train", "val", "test"))
    assert train.sequences == ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10")
    assert val.sequences == ("08",) and test.sequences == tuple(str(number) for number in range(11, 22))
    assert len(SemanticKitti(benchmark)) == 66
    with pytest.raises(DatasetError, match=r"split='training'.*train, val, test"):
        SemanticKitti(benchmark, split="training")
    with pytest.raises(DatasetError, match="not both"):
        SemanticKitti(benchmark, split="train", sequences=["07"])


def test_a_split_needs_all_its_sequences(root):
    with pytest.raises(DatasetError) as caught:
        SemanticKitti(root, split="train")
    assert all(f"sequences/{number:02d}/velodyne" in str(caught.value) for number in (0, 1, 2, 3, 4, 5, 6, 9, 10))


def test_one_percent_is_every_hundredth_scan_of_all(root):
    folder = root / "sequences"
    for name, count in (("07", 150), ("09", 60)):
        for kind in ("velodyne", "labels", "image_2"):
            (folder / name / kind).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            POINTS.tofile(folder / name / "velodyne" / f"{i:06d}.bin")
        (folder / name / "calib.txt").write_text(f"P2: {P2}\nTr: {TR}\n")
        (folder / name / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * count)
        (folder / name / "times.txt").write_text("0\n" * count)
    source = SemanticKitti(root, subset="1%-scans", images=False, labels=False)
    assert [frame.name for frame in source] == ["07/000000", "07/000100", "09/000050"]
    with pytest.raises(DatasetError, match=r"subset='1%-scenes'.*1%-scans"):
        SemanticKitti(root, subset="1%-scenes")


def test_a_scan_missing_between_others_is_counted(root):
    (root / "sequences" / "07" / "velodyne" / "000001.bin").unlink()
    source = SemanticKitti(root, sweeps=2)
    assert [frame.name for frame in source] == ["07/000000", "07/000002"]
    assert source.left_out == {"scan that is missing between others": 1}
    assert SemanticKitti(root, sequences=["07"])[1].sweeps[0].scan.stamp == 200_000_000


def test_points_that_are_not_finite_are_left_out_with_their_labels(root):
    raw = POINTS.copy()
    raw[0, 1] = np.nan
    path = root / "sequences" / "07" / "velodyne" / "000001.bin"
    raw.tofile(path)
    source = SemanticKitti(root, sweeps=2)
    frame = source[1]
    np.testing.assert_array_equal(frame.sweeps[0].scan.xyz, POINTS[1:, :3])
    np.testing.assert_array_equal(frame.sweeps[0].scan.source_index, [1, 2, 3])
    names = source.labelset.names
    np.testing.assert_array_equal(frame.labels, [names.index("car"), UNLABELLED, names.index("sidewalk")])
    assert source.left_out == {"point that is not finite": 1} and frame.sweeps[1].scan.source_index is None
    np.full_like(raw, np.inf).tofile(path)
    with pytest.raises(PointCloudError, match=r"000001.*no finite point"):
        source[1]
    assert len(source[2].sweeps) == 1 and source.left_out["sweep before the key sweep that is damaged"] == 1


def test_without_labels_and_images_their_files_are_not_needed(root):
    for path in [*root.rglob("*.label"), *root.rglob("*.png")]:
        path.unlink()
    source = SemanticKitti(root, images=False, labels=False)
    assert source.labelset is None and source[0].labels is None


def test_everything_missing_is_listed_at_once(root):
    folder = root / "sequences" / "07"
    (folder / "image_2" / "000001.png").unlink()
    (folder / "labels" / "000002.label").unlink()
    np.zeros(3, np.uint32).tofile(folder / "labels" / "000000.label")
    (folder / "velodyne" / "000001.bin").write_bytes(b"1234567")
    (folder / "times.txt").unlink()
    with pytest.raises(DatasetError) as caught:
        SemanticKitti(root, sequences=["07", 8])
    text = str(caught.value)
    for expected in (
        "07/image_2/000001.png: missing",
        "07/labels/000002.label: missing",
        "3 labels for 4 points",
        "000001.bin: 7 bytes",
        "07/times.txt: missing",
        "08/velodyne/*.bin: missing",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("calib.txt", f"P2: {P2}\n", "'Tr'"),
        ("calib.txt", f"P2: 1 2\nTr: {TR}\n", "12 numbers"),
        ("calib.txt", f"P2: {P2}\nTr: {TR.replace('-1', '-2')}\n", "no rigid transform"),
        ("calib.txt", f"P2: {P2.replace('100', '0')}\nTr: {TR}\n", "Singular"),
        ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n", "1 poses and 3 times"),
        ("times.txt", "a\nb\nc\n", "times.txt"),
        ("times.txt", "0.2\n0.1\n0\n", "times fall, or are no"),
        ("times.txt", "0\nnan\n0.2\n", "times fall, or are no"),
    ],
)
def test_inconsistent_text_files(root, file, content, message):
    (root / "sequences" / "07" / file).write_text(content)
    with pytest.raises(DatasetError, match=message):
        SemanticKitti(root)


def test_files_that_a_copy_leaves_behind(root):
    """Of macOS, which are no scans, and of a second download, which nobody knows what to do with."""
    folder = root / "sequences" / "07"
    (folder / "velodyne" / "._000000.bin").write_bytes(b"Mac OS X")
    with (folder / "calib.txt").open("a") as file:
        file.write("calib_time: 09-Jan-2012 13:57:47\n")  # as KITTI's raw data has it
    assert len(SemanticKitti(root)) == 3
    for name in ("000001 (1).bin", "1.bin", "last.bin"):
        POINTS.tofile(folder / "velodyne" / name)
    with pytest.raises(DatasetError, match=r"(?s)3 missing or inc.*velodyne/000001 \(1\).bin: the name is no frame"):
        SemanticKitti(root)


def test_intensities_to_255_are_told(root):
    (POINTS * [1, 1, 1, 100] + [0, 0, 0, 3]).astype(np.float32).tofile(
        root / "sequences" / "07" / "velodyne" / "000001.bin"
    )
    source = SemanticKitti(root)
    np.testing.assert_array_equal(source[1].sweeps[0].scan.intensity, np.ones(4))
    ((kind, count),) = source.left_out.items()
    assert "0 to 255?" in kind and count == 4


def test_an_image_that_does_not_decode(root):
    path = root / "sequences" / "07" / "image_2" / "000000.png"
    source, whole = SemanticKitti(root), path.read_bytes()
    for damaged in (b"no image", b"", whole[: len(whole) // 2], whole[:-8]):
        path.write_bytes(damaged)
        with pytest.raises(ImageError, match=r"000000\.png does not decode"):
            source[0]


@pytest.fixture(scope="module")
def real() -> SemanticKitti:
    folder = data_dir()
    if folder is None or not (folder / "semantickitti").is_dir():
        pytest.skip("needs SemanticKITTI in $OV3D_TEST_DATA/semantickitti")
    return SemanticKitti(folder / "semantickitti", sequences=["00"], sweeps=2)


def test_as_many_points_in_view_as_the_recording_is_known_for(real):
    frame = real[1]
    pairs = associate(frame)
    assert 18_500 < (pairs.sweep == 0).sum() < 20_500
    assert len(frame.labels) == len(frame.sweeps[0].scan)


def test_the_road_of_the_sweep_before_lies_on_the_road_of_this_one(real):
    """The poses chain calibration, camera 0 and world correctly: 1 m of driving leaves the two grounds within 5 cm."""
    frame = real[3]
    road = real.labelset.names.index("road")
    key = transform(frame.sweeps[0].T_world_lidar, frame.sweeps[0].scan.xyz)[frame.labels == road]
    old = transform(frame.sweeps[1].T_world_lidar, frame.sweeps[1].scan.xyz)[real[2].labels == road]
    near = [
        points[np.linalg.norm(points[:, :2] - frame.sweeps[0].T_world_lidar[:2, 3], axis=1) < 12]
        for points in (key, old)
    ]
    assert abs(np.median(near[0][:, 2]) - np.median(near[1][:, 2])) < 0.05
    driven = frame.sweeps[0].T_world_lidar[:3, 3] - frame.sweeps[1].T_world_lidar[:3, 3]
    assert 0.2 < np.linalg.norm(driven) < 2 and abs(driven[2]) < 0.1
