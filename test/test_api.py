"""The Python interface: arrays as people have them, in; labels row by row, out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ov3d_perception
from ov3d_perception.api import Perception, load, scan_of
from ov3d_perception.errors import IdentityError, MapError, PointCloudError, UnknownWordError
from ov3d_perception.language.bank import TextBank
from ov3d_perception.types import UNLABELLED, EncoderIdentity


@pytest.fixture(scope="module")
def model() -> Perception:
    return load(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.column_stack([rng.uniform(-15, 15, (3000, 2)), rng.normal(-1.7, 0.02, 3000), rng.uniform(0, 1, 3000)])


def test_a_row_for_each_row(model: Perception, points: np.ndarray) -> None:
    """NaN, infinity and the origin stay unlabelled, and change nothing about the others."""
    holes = points.copy()
    holes[[3, 500, 2999], 0] = np.nan, np.inf, 0.0
    holes[2999, :3] = 0.0
    rest = np.setdiff1d(np.arange(3000), [3, 500, 2999])
    whole, alone = model.label(holes, ["road", "car"]), model.label(points[rest], ["road", "car"])
    assert list(whole.label[[3, 500, 2999]]) == [UNLABELLED] * 3 and not whole.probability[[3, 500, 2999]].any()
    np.testing.assert_array_equal(whole.label[rest], alone.label)
    np.testing.assert_array_equal(whole.probability[rest], alone.probability)
    assert np.isnan(model.similarity(holes, "road")[[3, 500, 2999]]).all()


def test_intensity_of_any_scale_and_type(model: Perception, points: np.ndarray) -> None:
    bytes_ = points.copy()
    bytes_[:, 3] = np.round(255 * points[:, 3])
    rounded = points.copy()
    rounded[:, 3] = bytes_[:, 3] / 255
    words = ["road", "grass", "sidewalk"]
    np.testing.assert_array_equal(model.label(bytes_, words).label, model.label(rounded, words).label)
    np.testing.assert_array_equal(
        model.label(bytes_.astype(np.float32), words, 1 / 255).label, model.label(rounded, words).label
    )
    dark = np.column_stack([points[:, :3], np.zeros(len(points))])
    np.testing.assert_array_equal(model.label(points[:, :3], words).label, model.label(dark, words).label)


def test_a_class_of_several_prompts_and_the_checkpoints_own(model: Perception, points: np.ndarray) -> None:
    classes = {"vehicle": ["car", "truck"], "ground": ["road", "grass"]} | {word: [word] for word in ("tree", "bus")}
    labels = model.label(points, classes | {"person": ["person", "bicycle"]})
    assert labels.names == ("vehicle", "ground", "tree", "bus", "person") and labels.of("ground").mean() > 0.9
    assert model.label(points).names == tuple(model.default_words)


def test_few_words_leave_points_that_the_checkpoints_classes_fit_better(model: Perception, points: np.ndarray) -> None:
    """The ground is none of these; five words are taken for all there is."""
    few, many = ["car", "person"], ["car", "person", "bus", "truck", "bicycle"]
    assert (model.label(points, few).label == UNLABELLED).mean() > 0.9
    assert (model.label(points, many).label != UNLABELLED).all()


def test_similarity_orders_as_labels_do(model: Perception, points: np.ndarray) -> None:
    words = ["road", "car", "tree", "person", "bus"]
    np.testing.assert_array_equal(model.similarity(points, words).argmax(1), model.label(points, words).label)


def test_clear_refusals(model: Perception, points: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(PointCloudError, match=r"shape \(3000, 2\)"):
        model.label(points[:, :2], ["car"])
    with pytest.raises(UnknownWordError, match="flying carpet"):
        model.label(points, ["flying carpet"])
    with pytest.raises(PointCloudError, match="finite"):
        scan_of(np.full((3, 3), np.nan))
    other = TextBank(["car"], np.ones((1, 4), np.float32), EncoderIdentity("other", "model", 4))
    other.save(tmp_path / "other.npz")
    with pytest.raises(IdentityError, match="other/model"):
        load(text=str(tmp_path / "other.npz"))


@pytest.mark.parametrize("pose", [np.full((4, 4), np.nan), np.diag([1.0, 1.0, np.inf, 1.0])])
def test_a_scan_without_a_pose_is_refused_and_the_map_goes_on(
    model: Perception, points: np.ndarray, pose: np.ndarray
) -> None:
    session = model.start_map()
    with pytest.raises(MapError, match="not finite"):
        model.integrate(session, points, pose, 1)
    assert session.map is None
    model.integrate(session, points, np.eye(4), 2)
    assert session.map is not None and session.map.newest == 2


def test_the_package_exports_names_lazily() -> None:
    code = "import sys, ov3d_perception; print({'torch', 'numpy', 'rclpy'} & set(sys.modules)); ov3d_perception.load"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
    assert all(getattr(ov3d_perception, name) is not None for name in ov3d_perception.__all__)
    with pytest.raises(AttributeError, match="lead"):
        ov3d_perception.lead  # noqa: B018
