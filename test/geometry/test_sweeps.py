"""Sweeps brought together by their poses."""

from __future__ import annotations

import numpy as np

from ov3d_perception.geometry.poses import from_quaternion
from ov3d_perception.geometry.sweeps import SweepAccumulator, merge, recent
from ov3d_perception.types import Pose, Scan, Sweep

MS = 1_000_000
HALF = np.sqrt(0.5)


def scan_at(stamp_ms: int, *points: tuple[float, float, float], intensity: float = 0.0) -> Scan:
    return Scan(np.array(points, np.float32), np.full(len(points), intensity, np.float32), stamp_ms * MS)


def pose(x: float, yaw_quarter: bool = False) -> Pose:
    return from_quaternion((x, 0, 0), (0, 0, HALF, HALF) if yaw_quarter else (0, 0, 0, 1))


def test_a_standing_object_is_seen_at_one_place() -> None:
    """An object at (5, 0) of the world: from x = 0, then from x = 2 and turned left, where it is to the right."""
    accumulator = SweepAccumulator(2)
    accumulator.merge(scan_at(0, (5, 0, 0), intensity=0.25), pose(0))
    merged = accumulator.merge(scan_at(100, (0, -3, 0), intensity=0.75), pose(2, yaw_quarter=True))
    np.testing.assert_allclose(merged.xyz, [[0, -3, 0], [0, -3, 0]], atol=1e-6)
    np.testing.assert_array_equal(merged.intensity, np.array([0.75, 0.25], np.float32))
    assert merged.xyz.dtype == np.float32 and merged.sweeps == 2


def test_only_the_last_k_and_the_young_ones() -> None:
    accumulator = SweepAccumulator(3, max_age_s=0.25)
    counts = [accumulator.merge(scan_at(ms, (1, 0, 0)), pose(0)).sweeps for ms in (0, 100, 200, 300, 1000, 1100)]
    assert counts == [1, 2, 3, 3, 1, 2]


def test_without_pose_a_scan_stays_alone_and_is_not_kept() -> None:
    accumulator = SweepAccumulator(3)
    accumulator.merge(scan_at(0, (1, 0, 0)), pose(0))
    assert accumulator.merge(scan_at(100, (2, 0, 0)), None).sweeps == 1
    merged = accumulator.merge(scan_at(200, (3, 0, 0)), pose(0))
    np.testing.assert_array_equal(merged.xyz[:, 0], [3, 1])


def test_the_same_scan_again_is_not_counted_twice() -> None:
    accumulator = SweepAccumulator(5)
    accumulator.merge(scan_at(0, (1, 0, 0)), pose(0))
    for _ in range(3):
        assert accumulator.merge(scan_at(100, (2, 0, 0)), pose(0)).sweeps == 2


def test_a_bag_that_starts_again_forgets() -> None:
    accumulator = SweepAccumulator(3)
    accumulator.merge(scan_at(5000, (1, 0, 0)), pose(0))
    assert accumulator.merge(scan_at(100, (2, 0, 0)), pose(0)).sweeps == 1


def test_one_sweep_passes_through_untouched() -> None:
    scan = scan_at(0, (1, 2, 3))
    assert SweepAccumulator(1).merge(scan, pose(7)).xyz is scan.xyz


def test_sweeps_of_a_frame_are_merged_in_the_key_frame() -> None:
    key, other = scan_at(100, (1, 0, 0), intensity=0.25), scan_at(0, (1, 0, 0), intensity=0.5)
    merged = merge([Sweep(key, pose(2)), Sweep(other, pose(0)), Sweep(other, pose(5))])
    np.testing.assert_allclose(merged.xyz, [[1, 0, 0], [-1, 0, 0], [4, 0, 0]], atol=1e-6)
    np.testing.assert_array_equal(merged.intensity, np.array([0.25, 0.5, 0.5], np.float32))


def test_of_a_frames_sweeps_the_young_ones_are_taken_as_live() -> None:
    sweeps = [Sweep(scan_at(ms, (1, 0, 0)), pose(0)) for ms in (1000, 900, 500, 0)]
    assert [s.scan.stamp // MS for s in recent(sweeps, 4, 0.5)] == [1000, 900, 500]
    assert [s.scan.stamp // MS for s in recent(sweeps, 2, 0.5)] == [1000, 900]
