#!/usr/bin/env bash
# GTSAM 4.3.0 and its g2o files, in which pose graphs are handed on:
# 1. writeG2o has six significant digits for poses, measurements and information alike: 5 mm at 2 km, a metre or ten in UTM,
#    and a graph whose error was 0 has another one when it is read again, for no loop closure's fault.
# 2. readG2o(file) of a graph in three dimensions is an EMPTY graph without values, and so is readG2o(file, True) of one
#    in two; neither raises nor says a word, and an optimiser is content with it.
# Seen here, a ring of 200 poses with a radius of 2 km, sigmas of 1 cm and 0.001 rad: error 0 -> 24.4, poses moved up
# to 4.5 mm; in UTM (500123.4567, 5300123.4567) becomes (500123, 5.30012e+06); 0 factors and 0 poses without True.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps gtsam==4.3.0 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from importlib.metadata import version

import gtsam
import numpy as np

count, file = 200, f"{sys.argv[1]}/ring.g2o"
noise = gtsam.noiseModel.Diagonal.Sigmas(np.array([0.001] * 3 + [0.01] * 3))  # turns first
turns = 2 * np.pi * np.arange(count) / count
poses = [gtsam.Pose3(gtsam.Rot3.Yaw(turn), np.array([2000 * np.cos(turn), 2000 * np.sin(turn), 100])) for turn in turns]
graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
for number, pose in enumerate(poses):
    values.insert(number, pose)
    if number:
        graph.add(gtsam.BetweenFactorPose3(number - 1, number, poses[number - 1].between(pose), noise))
gtsam.writeG2o(graph, values, file)
again, at = gtsam.readG2o(file, True)
moved = max(float(np.abs(at.atPose3(n).translation() - pose.translation()).max()) for n, pose in enumerate(poses))
flat, flat_values = gtsam.readG2o(file)
errors = graph.error(values), again.error(at)

site = gtsam.Values()
site.insert(0, gtsam.Pose2(500123.4567, 5300123.4567, 0))
gtsam.writeG2o(gtsam.NonlinearFactorGraph(), site, f"{sys.argv[1]}/site.g2o")
line = open(f"{sys.argv[1]}/site.g2o").readline().split()
solid, solid_values = gtsam.readG2o(f"{sys.argv[1]}/site.g2o", True)
print("gtsam", version("gtsam"), f"error {errors[0]:.1f} -> {errors[1]:.1f}, moved {moved:.4f} m, site {line}")
print("as two dimensions:", flat.size(), "factors", flat_values.size(), "poses; the site as three:", solid_values.size(), "poses")
same = errors[0] < 1e-9 and 20 < errors[1] < 30 and 0.004 < moved < 0.005 and line[2:4] == ["500123", "5.30012e+06"]
same = same and again.size() == count - 1 and at.size() == count
empty = flat.size() == flat_values.size() == solid.size() == solid_values.size() == 0
sys.exit(0 if same and empty else "changed: more digits, or the wrong dimension is refused")
PYTHON
