"""``ov3d label``: clouds in files get labels, read back by libraries that share nothing with the writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ov3d_perception.api import Labels, Perception, load
from ov3d_perception.bags.messages import stamp_ns
from ov3d_perception.bags.pointcloud2 import structured
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.cli import main
from ov3d_perception.datasets.bag import Bag
from ov3d_perception.errors import BagError, DatasetError, PointCloudError, WriteError
from ov3d_perception.inference import LiveModel
from ov3d_perception.label_tool import LABEL_INFO, LABELLED, describe, label_bag, label_file
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.types import UNLABELLED

plyfile = pytest.importorskip("plyfile")
pypcd4 = pytest.importorskip("pypcd4")

WORDS = ["road", "car"]
MANY = [*WORDS, "tree", "bus", "person"]  # so many that the checkpoint's own classes do not compete


@pytest.fixture(scope="module")
def model() -> Perception:
    return load(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-15, 15, (500, 2)), rng.normal(-1.7, 0.02, 500), rng.uniform(0, 1, 500)])
    points[9] = np.nan
    path = tmp_path_factory.mktemp("scan") / "scan.npy"
    np.save(path, points.astype(np.float32))
    return path


def test_each_format_holds_every_point_and_the_names(model: Perception, scan: Path, tmp_path: Path) -> None:
    wanted = model.label(np.load(scan), WORDS)
    for name in ("a.ply", "a.pcd", "a.npy"):
        label_file(model, scan, tmp_path / name, WORDS)
    ply = plyfile.PlyData.read(str(tmp_path / "a.ply"))
    pcd = pypcd4.PointCloud.from_path(tmp_path / "a.pcd").pc_data
    for table in (ply["vertex"].data, pcd, np.load(tmp_path / "a.npy")):
        np.testing.assert_array_equal(table["label"], wanted.label)
        np.testing.assert_array_equal(table["probability"], wanted.probability)
        np.testing.assert_array_equal(table["x"], np.load(scan)[:, 0])
    assert table["label"][9] == UNLABELLED
    assert ply.comments == ["label 0 road", "label 1 car"]


def test_the_viewpoint_of_a_pcd_comes_back(model: Perception, scan: Path, tmp_path: Path) -> None:
    """pcl_viewer and CloudCompare move the points by it: without it labels would lie beside the cloud."""
    viewpoint = (10.0, -20.5, 1.25, 0.6, 0.0, 0.0, -0.8)
    cloud = pypcd4.PointCloud.from_xyzi_points(np.load(scan))
    cloud.metadata.viewpoint = viewpoint
    cloud.save(tmp_path / "in.pcd")
    label_file(model, tmp_path / "in.pcd", tmp_path / "out.pcd", WORDS)
    labelled = pypcd4.PointCloud.from_path(tmp_path / "out.pcd")
    assert labelled.metadata.viewpoint == viewpoint
    np.testing.assert_array_equal(labelled.pc_data["x"], np.load(scan)[:, 0])


def test_survey_coordinates_come_back(model: Perception, scan: Path, tmp_path: Path) -> None:
    east = np.add(np.load(scan), [4e5, 5e6, 0, 0], dtype=np.float64)
    np.save(tmp_path / "far.npy", east)
    labels = label_file(model, tmp_path / "far.npy", tmp_path / "a.npy", MANY)
    table = np.load(tmp_path / "a.npy")
    np.testing.assert_allclose(table["y"], east[:, 1], atol=1e-3)
    assert table["y"].dtype == np.float64 and labels.of("road").mean() > 0.5


def test_a_nameless_format_is_refused_before_the_network_runs(model: Perception, tmp_path: Path) -> None:
    with pytest.raises(PointCloudError, match=r"\.ply, \.pcd or \.npy"):
        label_file(model, tmp_path / "nowhere.pcd", tmp_path / "a.txt")


def test_the_cloud_itself_is_not_written_over(model: Perception, scan: Path) -> None:
    before = scan.read_bytes()
    with pytest.raises(WriteError, match="is the cloud itself"):
        label_file(model, scan, scan.parent / ".." / scan.parent.name / scan.name, WORDS)
    assert scan.read_bytes() == before


@pytest.mark.parametrize(("columns", "strength", "told"), [(3, 1.0, True), (4, 0.0, True), (4, 1.0, False)])
def test_a_cloud_without_intensities_is_told(
    model: Perception,
    scan: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    columns: int,
    strength: float,
    told: bool,
) -> None:
    points = np.load(scan) * np.float32([1, 1, 1, strength])
    np.save(tmp_path / "cloud.npy", np.nan_to_num(points)[:, :columns])
    label_file(model, tmp_path / "cloud.npy", tmp_path / "a.ply", WORDS)
    assert ("has no intensity" in caplog.text) == told


def test_shares_most_first() -> None:
    labels = Labels(("car", "road", "tree"), np.int32([1, 1, 0, UNLABELLED]), np.float32([1, 1, 1, 0]))
    assert describe(labels.counts()).splitlines() == [" 50.0 %  road", " 25.0 %  car", " 25.0 %  unlabelled"]


def test_from_the_shell(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "labelled.pcd"
    monkeypatch.setattr("sys.argv", ["ov3d", "label", str(scan), *MANY, "--out", str(out), "--device", "cpu"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    assert "road" in capsys.readouterr().out and out.exists()


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scans of the simulated street."""
    from ov3d_perception.sim.bag import write_drive
    from ov3d_perception.sim.drive import simulate

    return write_drive(tmp_path_factory.mktemp("bag") / "drive", simulate(2000, 0.4, image_every=100))


def test_a_bag_is_labelled_as_its_evaluation_says(model: Perception, drive: Path, tmp_path: Path) -> None:
    """Every scan, in its own frame and with its stamp; the same labels as the data set's frames get."""
    counts = label_bag(model, drive, tmp_path / "out")
    source = Bag(drive, images=False)
    live = LiveModel.of(model.segmenter, Vocabulary.from_words(model.default_words, model.text))
    with open_bag(tmp_path / "out") as bag:
        clouds = [message.decode() for message in bag.messages([LABELLED])]
        (info,) = [message.decode() for message in bag.messages([LABEL_INFO])]
        assert bag.topics["/tf"].count > 10 and bag.topics["/tf_static"].count == 1
    assert len(clouds) == len(source) == 4
    assert tuple(one.class_name for one in info.class_map) == tuple(model.default_words)
    for cloud, frame in zip(clouds, (source[i] for i in range(4)), strict=True):
        scan, table = frame.sweeps[0].scan, structured(cloud)
        assert (stamp_ns(cloud), cloud.header.frame_id) == (scan.stamp, "lidar")
        np.testing.assert_array_equal(table["label"], live(frame.sweeps).label)
        np.testing.assert_array_equal(table["x"], scan.xyz[:, 0])
    assert sum(counts.values()) == sum(cloud.width for cloud in clouds)


def test_of_a_bag_no_file_of_one_cloud_is_made(model: Perception, drive: Path, tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"one cloud's file\. Name a folder"):
        label_bag(model, drive, tmp_path / "labelled.PLY")
    assert not list(tmp_path.iterdir())


def test_a_bag_that_is_not_labelled_to_its_end_is_not_there(
    model: Perception, drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called, call = [], LiveModel.__call__

    def interrupted(*arguments: Any) -> Any:
        called.append(arguments)
        if len(called) == 3:
            raise KeyboardInterrupt
        return call(*arguments)

    monkeypatch.setattr(LiveModel, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        label_bag(model, drive, tmp_path / "out")
    assert len(called) == 3 and list(tmp_path.iterdir()) == []


def test_a_bag_without_motion_is_labelled_scan_by_scan(
    model: Perception,
    drive: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_bag(drive) as recorded, BagWriter(tmp_path / "still") as bag:
        for message in recorded.messages(["/points"]):
            bag.write_raw(message.topic, message.msgtype, message.data, message.stamp)
    monkeypatch.setattr(
        "sys.argv", ["ov3d", "label", str(tmp_path / "still"), "-o", str(tmp_path / "out"), "road", "car"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "one by one" in caplog.text
    with open_bag(tmp_path / "out") as bag:
        assert bag.topics[LABELLED].count == 4
    with pytest.raises(DatasetError, match="pose in 'map'"):
        label_bag(model, tmp_path / "still", tmp_path / "other", options={"fixed_frame": "map"})
    for options, said in (
        ({"every": 0}, "every is 0"),
        ({"evry": 2}, "'evry'"),
        ({"points": 3}, "points is 3, not str"),
    ):
        with pytest.raises(DatasetError, match=said):
            label_bag(model, drive, tmp_path / "other", options=options)
    assert not (tmp_path / "other").exists()
