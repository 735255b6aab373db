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
    """The pose at a moment: 15 m/s along x and 1 rad/s to the left."""
    seconds = (stamp - STAMP) / 1e9
    return from_quaternion([15 * seconds, 0, 0.7], [0, 0, np.sin(seconds / 2), np.cos(seconds / 2)])


def turning_at(stamps: np.ndarray) -> np.ndarray:
    return np.array([turning(stamp) for stamp in stamps.tolist()])


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
    result = deskew(scan, turning_at)
    assert np.abs(result.xyz - expected).max() < 1e-3
    order = np.argsort(time)
    sent_in_order = Scan(scan.xyz[order], scan.intensity, STAMP, time=time[order])
    np.testing.assert_array_equal(deskew(sent_in_order, turning_at).xyz, result.xyz[order])
    assert result.time is None and result.stamp == STAMP


def test_without_times_or_points_nothing_happens():
    scan = Scan(np.ones((3, 3), np.float32), np.zeros(3, np.float32))
    assert deskew(scan, turning_at) is scan
    empty = Scan(np.zeros((0, 3), np.float32), np.zeros(0, np.float32), time=np.zeros(0, np.float32))
    assert len(deskew(empty, turning_at)) == 0


def test_poses_that_end_early_are_an_error():
    scan = Scan(np.ones((2, 3), np.float32), np.zeros(2, np.float32), STAMP, time=np.array([0, 0.1], np.float32))

    def ends(stamps: np.ndarray) -> np.ndarray:
        if stamps.max() > STAMP + 10**7:
            raise TransformError("No pose", "Wait")
        return np.tile(np.eye(4), (len(stamps), 1, 1))

    with pytest.raises(TransformError, match="No pose"):
        deskew(scan, ends)
