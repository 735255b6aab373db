#!/usr/bin/env bash
# ouster-sdk 1.0.1: a missing return (range 0) is the point (0, 0, 0) of XYZLut, with use_extrinsics, too: the origin of the
# vehicle, not of the sensor. dewarp and transform, which are meant to follow, take it for a point: each column's missing
# returns come to where the vehicle's origin was at that time. The SDK's own example for SLAM, XYZLut(use_extrinsics=True)
# and then dewarp with body_to_world, so draws a line of points along the vehicle's own path, and afterwards no test for
# 0 finds them. Keep `range > 0` of before.
# Seen here: every other column sees the sky, 1 m of motion forwards: 32,768 of 65,536 points lie on the line from (0, 0, 0)
# to (1, 0, 0), of which 64, those of the first column, are still 0; the sensor went from (1, 0, 2) to (2, 0, 2).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q ouster-sdk==1.0.1 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from ouster.sdk import core

sensor = core.SensorInfo.from_default(core.LidarMode._1024x10)
mounted = np.eye(4)
mounted[:3, 3] = 1, 0, 2  # 1 m in front of the vehicle's origin and 2 m above it
sensor.sensor_to_body = mounted
frame = core.LidarFrame(sensor)
returned = np.ones((frame.h, frame.w), bool)
returned[:, ::2] = False
frame.field(core.ChanField.RANGE)[:] = np.where(returned, 20_000, 0)  # millimetres
way = np.linspace(0, 1, frame.w)
for column, x in enumerate(way):
    frame.body_to_world[column] = np.eye(4)
    frame.body_to_world[column, 0, 3] = x

in_body = core.XYZLut(sensor, use_extrinsics=True)(frame)
in_world = core.dewarp(in_body, frame.body_to_world)
on_path = np.abs(in_world - np.stack([way, 0 * way, 0 * way], axis=1)).max(axis=2) < 1e-9
still_zero = int((in_world == 0).all(axis=2).sum())
moved = core.transform(core.XYZLut(sensor)(frame), mounted)[~returned]
print("ouster-sdk", version("ouster-sdk"), f"{on_path.sum()} of {on_path.size} points on the vehicle's path, {still_zero} still zero;",
      "missing returns after transform:", np.unique(moved, axis=0).tolist())  # fmt: skip
same = not in_body[~returned].any() and np.array_equal(on_path, ~returned) and still_zero == 64
sys.exit(0 if same and (moved == [1, 0, 2]).all() else "changed: missing returns are no points, or stay (0, 0, 0)")
PYTHON
