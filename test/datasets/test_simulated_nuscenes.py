"""The street as nuScenes: official splits, sweeps, cameras and truth agree with the drive that was simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.datasets.nuscenes import NuScenes
from ov3d_perception.datasets.simulated_nuscenes import write_street
from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.association import associate
from ov3d_perception.sim.drive import simulate
from ov3d_perception.sim.lidar import LidarModel

SMALL = LidarModel(columns=90, slices=2)
DRIVE = {"rate_hz": 20.0, "image_size": (96, 54), "lidar": SMALL}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    return write_street(folder, [2110], [2111], seconds=0.25, key_every=4, **DRIVE)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_frames_are_those_of_the_drive(root: Path) -> None:
    drive = simulate(2110, 0.25, image_every=4, **DRIVE)  # type: ignore[arg-type]
    source = NuScenes(root, split="mini_train", sweeps=5)
    assert source.sequences == ("scene-0061",) and len(source) == 2
    frame = source[1]
    for sweep, number in zip(frame.sweeps, (4, 3, 2, 1, 0), strict=True):
        shot = drive[number]
        np.testing.assert_array_equal(sweep.scan.xyz, shot.scan.xyz)
        np.testing.assert_allclose(sweep.scan.intensity, shot.scan.intensity, atol=0.002)
        np.testing.assert_allclose(sweep.T_world_lidar, shot.T_world_lidar, atol=1e-6)
    np.testing.assert_array_equal(frame.labels, drive[4].labels)
    assert len(frame.views) == 6


def test_as_many_points_in_view_as_in_the_drive(root: Path) -> None:
    truth = simulate(2111, 0.25, image_every=4, **DRIVE)[0].frame()  # type: ignore[arg-type]
    found = NuScenes(root, split="mini_val")[0]
    mine, theirs = np.unique(associate(found).point), np.unique(associate(truth).point)
    assert len(theirs) > 300 and len(np.setxor1d(mine, theirs)) <= 2  # exposures are stamped in microseconds


def test_more_worlds_than_scenes_and_other_versions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"9 seeds for the 8 scenes of mini_train"):
        write_street(tmp_path, "0-8", version="v1.0-mini")
    with pytest.raises(DatasetError, match=r"601 seeds for the 600 scenes of slidr_train"):
        write_street(tmp_path, "0-600")
    with pytest.raises(DatasetError, match=r"v2.*v1.0-mini"):
        write_street(tmp_path, version="v2")
