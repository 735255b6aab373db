#!/usr/bin/env bash
# asrl-pyboreas 2.0.0, the devkit of the Boreas data set:
# 1. PointCloud.remove_motion does NOTHING to points that are not in the order of their times: they are moved in other
#    processes, on copies that nobody collects. Its own random_downsample before it shuffles them. In order they are moved
#    in 20 steps, each by the motion at the step's beginning, so that they stay behind by half a step on average.
# 2. quaternionToRot and rotToQuaternion ("qx, qy, qz, qw") are the inverse of what ROS, SciPy, Eigen and TUM's trajectories
#    mean by these numbers. There and back is right.
# 3. project_onto_image takes points BEHIND the camera for seen: (1, 1, -10) is in the picture, at a depth of -10.
# Nothing is said of any of them.
# Seen here, a wall at 50 m, 20 m/s, a scan of 0.1 s: off by up to 1.0 m as measured and after remove_motion of a shuffled
# scan, in order up to 0.10 m, always to one side, 0.05 m on average; quaternionToRot times SciPy's matrix is the identity.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps asrl-pyboreas==2.0.0 asrl-pylgmath==1.0.3 asrl-pysteam==1.1.0
"$tmp/venv/bin/pip" install -q numpy==2.2.6 scipy==1.17.1 opencv-python-headless==5.0.0.93 matplotlib==3.10.7 PyYAML==6.0.3
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from pyboreas.data.pointcloud import PointCloud
from pyboreas.utils.utils import quaternionToRot
from scipy.spatial.transform import Rotation

START, PERIOD, SPEED, WALL = 1000.0, 0.1, 20.0, 50.0
rng = np.random.default_rng(0)
times = np.sort(rng.uniform(START, START + PERIOD, 2000))
rate = np.array([[SPEED, 0, 0, 0, 0, 0]]).T


def errors(times, compensate=True):
    """Of a wall's points, in metres; the reference is the middle of the scan."""
    cloud = np.zeros((len(times), 6))
    cloud[:, 0], cloud[:, 5] = WALL - SPEED * (times - START - PERIOD / 2), times
    cloud = PointCloud(cloud)
    if compensate:
        cloud.remove_motion(rate)
    return cloud.points[:, 0] - WALL


measured, ordered = errors(times, compensate=False), errors(times)
shuffled = errors(rng.permutation(times))
q = np.array([0, 0, np.sin(0.25), np.cos(0.25)])
product = quaternionToRot(q) @ Rotation.from_quat(q).as_matrix()
projection = np.array([[1000, 0, 1224, 0], [0, 1000, 1024, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
uv, depth, _ = PointCloud(np.array([[1, 1, -10, 0, 0, 0.0]])).project_onto_image(projection)
print("asrl-pyboreas", version("asrl-pyboreas"), "furthest off as measured, shuffled, in order:",
      *(np.abs(one).max().round(3) for one in (measured, shuffled, ordered)), "in order on average:",
      ordered.mean().round(3), "R R:", product.round(6).tolist(), "behind:", uv, depth)  # fmt: skip
same = np.array_equal(np.sort(shuffled), np.sort(measured)) and np.abs(shuffled).max() > 0.99
same = same and 0.09 < np.abs(ordered).max() < 0.11 and -0.055 < ordered.mean() < -0.045
same = same and np.allclose(product, np.eye(3)) and uv.tolist() == [[1124, 924]] and depth.tolist() == [-10]
sys.exit(0 if same else "changed: scans in any order are undistorted, or the quaternions are the usual ones")
PYTHON
