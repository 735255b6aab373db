"""Motion compensation against the closed form."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.deskew import deskew
from ov3d_perception.geometry.poses import from_quaternion, invert, transform
from ov3d_perception.types import Scan

STAMP = 1_600_000_000_123_456_789


def turning(stamp: int) -> np.ndarray:
    """15 m/s along x and 1 rad/s to the left."""
    seconds = (stamp - STAMP) / 1e9
    return from_quaternion([15 * seconds, 0, 0.7], [0, 0, np.sin(seconds / 2), np.cos(seconds / 2)])


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.1), (-0.1, 0.0), (-0.05, 0.05), (0.02, 0.02)])
def test_a_still_world_becomes_sharp(start, end):
    rng = np.random.default_rng(1)
    world = rng.uniform(-70, 70, (2000, 3))
    time = rng.uniform(start, end, 2000).astype(np.float32)
    seen = np.stack(
        [
            transform(invert(turning(STAMP + round(float(t) * 1e9))), p[None])[0]
            for t, p in zip(time, world, strict=True)
        ]
    )
    scan = Scan(seen.astype(np.float32), np.zeros(2000, np.float32), STAMP, time=time)
    expected = transform(invert(turning(STAMP)), world)
    assert np.abs(seen - expected).max() > 0.1  # the motion is worth undoing
    result = deskew(scan, turning)
    assert np.abs(result.xyz - expected).max() < 2e-3
    assert result.time is None and result.stamp == STAMP


def test_without_times_or_points_nothing_happens():
    scan = Scan(np.ones((3, 3), np.float32), np.zeros(3, np.float32))
    assert deskew(scan, turning) is scan
    empty = Scan(np.zeros((0, 3), np.float32), np.zeros(0, np.float32), time=np.zeros(0, np.float32))
    assert len(deskew(empty, turning)) == 0


def test_poses_that_end_early_are_an_error():
    scan = Scan(np.ones((2, 3), np.float32), np.zeros(2, np.float32), STAMP, time=np.array([0, 0.1], np.float32))

    def ends(stamp: int) -> np.ndarray:
        if stamp > STAMP + 10**7:
            raise TransformError("No pose", "Wait")
        return np.eye(4)

    with pytest.raises(TransformError, match="No pose"):
        deskew(scan, ends)
