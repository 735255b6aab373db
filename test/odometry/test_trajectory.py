"""A track of poses reaches back to an earlier stamp; its drift is the error of the motion, not of the place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ov3d_perception.odometry.trajectory import Trajectory, drift
from ov3d_perception.types import Poses

S = 1_000_000_000


def along_x(metres: list[float]) -> Poses:
    poses = np.tile(np.eye(4), (len(metres), 1, 1))
    poses[:, 0, 3] = metres
    return poses


def test_length_is_the_way_travelled() -> None:
    track = Trajectory(np.arange(3) * S, along_x([0, 2, 1]), "lidar")
    assert track.length_m == 3
    assert str(track) == "3 poses of 'lidar', 2.0 s, 3.0 m"


def test_reaching_back_goes_on_with_the_first_motion() -> None:
    track = Trajectory(np.array([10, 12, 13]) * S, along_x([1, 3, 9]), "lidar").reaching_back_to(9 * S)
    assert track.stamps.tolist() == [9 * S, 10 * S, 12 * S, 13 * S]
    np.testing.assert_allclose(track.T_odom_lidar[0], along_x([0])[0], atol=1e-12)
    assert track.reaching_back_to(9 * S) is track


def test_drift_of_a_scale_error() -> None:
    error = drift(along_x([0, 1.1, 2.2, 3.3]), along_x([0, 1, 2, 3]), scans=2)
    assert error.metres == pytest.approx(0.2)
    assert error.share == pytest.approx(0.1)
    assert error.degrees == pytest.approx(0)


def test_drift_knows_no_place() -> None:
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("z", 40, degrees=True).as_matrix()
    error = drift(turned @ along_x([5, 6, 8]), along_x([0, 1, 3]), scans=1)
    assert error.metres == pytest.approx(0, abs=1e-12)
    assert error.degrees == pytest.approx(0, abs=1e-5)


def test_too_few_poses_for_a_drift() -> None:
    with pytest.raises(ValueError, match="more than 3"):
        drift(along_x([0, 1]), along_x([0, 1]), scans=3)
