#!/usr/bin/env bash
# pypatchworkpp 1.4.1, ground segmentation (Patchwork++): a point nearer than min_range or farther than max_range is not left
# out: it is put among the NON-ground points, and getNongroundIndices does not tell it from an obstacle. min_range is 2.7 m
# unless told otherwise, for the sensor on a car's roof, whose beams reach no nearer floor; sensor_height, which one does set,
# leaves it as it is. On a robot with its LiDAR at 0.5 m the floor around it is an obstacle on all sides, and so is a car's
# road beyond 80 m.
# Seen here, nothing but a flat floor, 32 rings from -25 to 15 degrees: of 18,000 points 11,053 are non-ground with the sensor
# (and sensor_height) at 0.5 m, of which 10,800 are within 2.7 m; none with min_range = 0.1, none at 1.723 m.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pypatchworkpp==1.4.1 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pypatchworkpp

elevation, azimuth = np.meshgrid(np.radians(np.linspace(-25, 15, 32)), np.linspace(-np.pi, np.pi, 900, endpoint=False))
elevation, azimuth = elevation.ravel(), azimuth.ravel()


def non_ground(height, **options):
    """Points of a floor, how many of them are non-ground, and how many of those are within 2.7 m."""
    seen = elevation < -np.arctan(height / 60)
    reach = height / np.tan(-elevation[seen])
    z = -height + np.random.default_rng(0).normal(0, 0.005, len(reach))
    places = np.c_[reach * np.cos(azimuth[seen]), reach * np.sin(azimuth[seen]), z, np.full(len(z), 0.3)]
    parameters = pypatchworkpp.Parameters()
    for name, value in (options | {"sensor_height": height}).items():
        setattr(parameters, name, value)
    segmenter = pypatchworkpp.patchworkpp(parameters)
    segmenter.estimateGround(places.astype(np.float32))
    wrong = np.array(segmenter.getNongroundIndices(), int)
    return len(places), len(wrong), int(np.count_nonzero(reach[wrong] <= 2.7))


low, told, high = non_ground(0.5), non_ground(0.5, min_range=0.1), non_ground(1.723)
print("pypatchworkpp", version("pypatchworkpp"), "points, non-ground, of them within 2.7 m: at 0.5 m", low,
      "with min_range = 0.1", told, "at 1.723 m", high)  # fmt: skip
same = pypatchworkpp.Parameters().min_range == 2.7 and low[0] == 18000 and low[2] == 10800 and told[1] < 100
sys.exit(0 if same and high[1] < 100 else "changed: the floor near the sensor is ground, or no obstacle")
PYTHON
