#!/usr/bin/env bash
# fastquat 0.5.2 (jax 0.10.2), quaternions for JAX:
# 1. slerp between two orientations that are less than 3.6 degrees apart goes a QUARTER of the way and BACK: t = 1 gives the
#    first one again. (Near each other it goes over to a straight line, whose weight is t * (1 - t).) Consecutive poses of an
#    IMU, an odometry or a LiDAR that is de-skewed are always so near, and there is a jump at the end of each step. Wider
#    apart, as in its documentation's example with 90 degrees, all is right; what is given is a unit quaternion always.
# 2. from_rotation_matrix is right as long as the trace is above -1: of a half turn (a camera upside down, a robot that has
#    turned round) it is nan.
# Seen here, from 0 to 3 degrees, t = 0, 0.25, 0.5, 0.75, 1: 0, 0.56, 0.75, 0.56, 0; from 0 to 4: 0, 1, 2, 3, 4. Half a turn
# about x, y or z: (0, nan, nan, nan).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q fastquat==0.5.2 jax==0.10.2 jaxlib==0.10.2 numpy==2.2.6
"$tmp/venv/bin/python" -W ignore - <<'PYTHON'
import os
import sys
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"
import numpy as np
from fastquat import Quaternion

STEPS = (0, 0.25, 0.5, 0.75, 1)


def about_z(degrees):
    half = np.radians(degrees) / 2
    return Quaternion(float(np.cos(half)), 0.0, 0.0, float(np.sin(half)))


def way(degrees):
    """Degrees about z on the way from 0 to so many."""
    turns = [about_z(0).slerp(about_z(degrees), step) for step in STEPS]
    return [round(float(np.degrees(2 * np.arctan2(turn.z, turn.w))), 2) for turn in turns]


def half_turn(axis):
    return Quaternion.from_rotation_matrix(np.float32(2 * np.outer(axis, axis) - np.eye(3)))


near, wide = way(3), way(4)
halves = [[round(float(value), 3) for value in half_turn(axis).wxyz] for axis in np.eye(3)]
print("fastquat", version("fastquat"), "3 degrees:", near, "4 degrees:", wide, "half turns:", halves)
same = np.allclose(near, [0, 0.56, 0.75, 0.56, 0], atol=0.01) and np.allclose(wide, [0, 1, 2, 3, 4], atol=0.02)
same = same and all(np.isnan(half[1:]).any() for half in halves)
sys.exit(0 if same else "changed: slerp comes to its end")
PYTHON
