"""The simulated data set: seeds, the cache on disk, rendering ahead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.datasets.simulated import Simulated, prepare
from ov3d_perception.errors import DatasetError
from ov3d_perception.sim import classes
from ov3d_perception.sim.drive import simulate

OPTIONS = {"seeds": "2106", "frames": 2, "stride": 3, "image_size": (96, 54)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return Simulated(tmp_path_factory.mktemp("cache"), **OPTIONS)  # type: ignore[arg-type]


def test_frames_are_those_of_the_drive(source: Simulated) -> None:
    truth = simulate(2106, 0.6, stride=3, image_size=(96, 54))[1]
    for _ in range(2):  # rendered, then read
        found = source.rendered(1)
        scan = found.frame.sweeps[0].scan
        np.testing.assert_array_equal(scan.xyz, truth.scan.xyz)
        np.testing.assert_allclose(scan.intensity, truth.scan.intensity, atol=1e-3)
        np.testing.assert_array_equal(found.frame.labels, truth.labels)
        np.testing.assert_array_equal(found.instances, truth.instances)
        np.testing.assert_array_equal(found.frame.sweeps[0].T_world_lidar, truth.T_world_lidar)
        for view, other, mine, theirs in zip(
            found.frame.views, truth.views, found.class_images, truth.class_images, strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)
            assert view.stamp == other.stamp and view.camera.name == other.camera.name
            assert np.abs(view.image.astype(int) - other.image).mean() < 8  # JPEG
    assert found.frame.name == "2106/001" and len(source) == 2 and source.sequences == ("2106",)
    assert source.labelset is not None and source.labelset.names == classes.NAMES


def test_without_cameras_the_scan_is_the_same(source: Simulated) -> None:
    root = next(path for path in source.cache.parents if path.name.startswith("cache"))
    bare = Simulated(root, cameras=False, **OPTIONS)  # type: ignore[arg-type]
    assert bare.cache != source.cache
    for _ in range(2):  # simulated, then read
        assert bare[1].views == ()
        np.testing.assert_array_equal(bare[1].sweeps[0].scan.xyz, source[1].sweeps[0].scan.xyz)
        np.testing.assert_array_equal(bare[1].labels, source[1].labels)


def test_the_cache_is_found_again(source: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    source.rendered(1)
    root = next(path for path in source.cache.parents if path.name.startswith("cache"))
    again = open_dataset("simulated", root, **OPTIONS)
    monkeypatch.setattr("ov3d_perception.datasets.simulated._save", None)  # nothing is rendered any more
    assert again[1].name == "2106/001"
    with pytest.raises(TypeError):
        again[0]


def test_sweeps_before_the_key_sweep_are_the_revolutions_before_it(source: Simulated) -> None:
    root = next(path for path in source.cache.parents if path.name.startswith("cache"))
    several = Simulated(root, sweeps=3, **OPTIONS)  # type: ignore[arg-type]
    assert several.cache == source.cache and len(several[0].sweeps) == 1
    truth = simulate(2106, 0.6, cameras=False)
    for _ in range(2):  # simulated, then read
        for sweep, number in zip(several[1].sweeps, (3, 2, 1), strict=True):
            np.testing.assert_array_equal(sweep.scan.xyz, truth[number].scan.xyz)
            np.testing.assert_array_equal(sweep.T_world_lidar, truth[number].T_world_lidar)
            assert sweep.scan.stamp == truth[number].stamp
    assert sorted(path.name for path in several.cache.rglob("sweep*")) == ["sweep_0001.npz", "sweep_0002.npz"]


@pytest.mark.slow
def test_prepare_renders_all(tmp_path: Path) -> None:
    source = prepare("2107", workers=1, root=tmp_path, frames=2, stride=1, image_size=(64, 36), sweeps=2)
    assert sorted(path.name for path in source.cache.rglob("*")) == ["000.npz", "001.npz", "2107", "sweep_0000.npz"]


def test_impossible_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="at least 1"):
        Simulated(tmp_path, frames=0)
