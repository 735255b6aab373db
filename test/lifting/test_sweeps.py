"""Which sweeps a sample has."""

from dataclasses import replace

import numpy as np
from colour_scene import earlier, wall

from ov3d_perception.lifting.sweeps import draw_sweeps, without_ego
from ov3d_perception.types import Scan, Sweep

SWEEPS = (Sweep(wall(0)[0], np.eye(4)), *(earlier(0, k) for k in range(1, 7)))


def stamps(count, seconds, seed=0):
    return [-s.scan.stamp // 100_000_000 for s in draw_sweeps(SWEEPS, count, seconds, np.random.default_rng(seed))]


def test_the_key_sweep_comes_first_and_others_are_near_in_time():
    drawn = {tuple(stamps(3, 0.4, seed)) for seed in range(100)}
    assert drawn == {(0, a, b) for a in range(1, 5) for b in range(a + 1, 5)}


def test_there_may_be_fewer_than_asked_for():
    assert stamps(3, 0.1) == [0, 1]
    assert stamps(5, 0.0) == [0]
    assert stamps(1, 9.0) == [0]
    assert len(draw_sweeps(SWEEPS[:1], 3, 1.0, np.random.default_rng(0))) == 1


def test_the_vehicle_itself_is_left_out_of_extra_sweeps_with_all_columns():
    xyz = np.array([[0.5, -0.9, 1], [0.5, 1.0, 0], [-3, 0.2, 0], [0, 0, 0]], np.float32)
    scan = Scan(xyz, np.arange(4, dtype=np.float32), ring=np.arange(4, dtype=np.int32))
    kept = without_ego(Sweep(scan, np.eye(4))).scan
    np.testing.assert_array_equal(kept.xyz, xyz[1:3])
    np.testing.assert_array_equal(kept.intensity, [1, 2])
    np.testing.assert_array_equal(kept.ring, [1, 2])
    assert kept.time is None
    R = np.float64([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # optical axes
    turned = without_ego(Sweep(replace(scan, xyz=xyz @ R.astype(np.float32), R_upright=R), np.eye(4))).scan
    np.testing.assert_array_equal(turned.xyz, xyz[1:3] @ R)
    np.testing.assert_array_equal(turned.R_upright, R)
    key = draw_sweeps((Sweep(scan, np.eye(4)),), 3, 1.0, np.random.default_rng(0))[0]
    assert len(key.scan) == 4
