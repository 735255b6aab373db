"""``ov3d label``: clouds in files get labels, read back by libraries that share nothing with the writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.api import Labels, Perception, load
from ov3d_perception.cli import main
from ov3d_perception.errors import PointCloudError
from ov3d_perception.label_tool import describe, label_file
from ov3d_perception.types import UNLABELLED

plyfile = pytest.importorskip("plyfile")
pypcd4 = pytest.importorskip("pypcd4")

WORDS = ["road", "car"]


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


def test_survey_coordinates_come_back(model: Perception, scan: Path, tmp_path: Path) -> None:
    east = np.add(np.load(scan), [4e5, 5e6, 0, 0], dtype=np.float64)
    np.save(tmp_path / "far.npy", east)
    labels = label_file(model, tmp_path / "far.npy", tmp_path / "a.npy", WORDS)
    table = np.load(tmp_path / "a.npy")
    np.testing.assert_allclose(table["y"], east[:, 1], atol=1e-3)
    assert table["y"].dtype == np.float64 and labels.of("road").mean() > 0.5


def test_a_nameless_format_is_refused_before_the_network_runs(model: Perception, tmp_path: Path) -> None:
    with pytest.raises(PointCloudError, match=r"\.ply, \.pcd or \.npy"):
        label_file(model, tmp_path / "nowhere.pcd", tmp_path / "a.txt")


def test_shares_most_first() -> None:
    labels = Labels(("car", "road", "tree"), np.int32([1, 1, 0, UNLABELLED]), np.float32([1, 1, 1, 0]))
    assert describe(labels).splitlines() == [" 50.0 %  road", " 25.0 %  car", " 25.0 %  unlabelled"]


def test_from_the_shell(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "labelled.pcd"
    monkeypatch.setattr("sys.argv", ["ov3d", "label", str(scan), "road", "car", "--out", str(out), "--device", "cpu"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    assert "road" in capsys.readouterr().out and out.exists()
