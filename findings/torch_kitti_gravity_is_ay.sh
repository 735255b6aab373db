#!/usr/bin/env bash
# torch-kitti 1.0.1, KITTI's raw drives for PyTorch, IMUData.open, which reads a line of oxts: the list of names has `ay` twice and
# `az` not at all. KITTI's order is ax, ay, az, af, al, au; the third number, the vertical acceleration with gravity in it,
# overwrites the second: `ay`, to the left, is 9.8 m/s^2 at rest and whatever the car does in bends is gone. The other 28
# values are right, so that a look at the position or at `af` finds nothing; only who asks for `az` is told
# that there is none.
# Seen here, a line with ax, ay, az = 0.1, -0.5, 9.81: ay 9.81, no az, al and au as they are.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.4.6
"$tmp/venv/bin/pip" install -q --no-deps torch-kitti==1.0.1 # its reader of oxts needs no torch
cd "$tmp"
venv/bin/python - <<'PYTHON'
import importlib.util
import sys
from importlib.metadata import distribution
from pathlib import Path

ORDER = (
    "lat lon alt roll pitch yaw vn ve vf vl vu ax ay az af al au wx wy wz wf wl wu "
    "pos_accuracy vel_accuracy navstat numsats posmode velmode orimode"
).split()  # KITTI's dataformat.txt
values = {name: 100.0 + i for i, name in enumerate(ORDER)} | {"ax": 0.1, "ay": -0.5, "az": 9.81}
Path("0000000000.txt").write_text(" ".join(f"{values[name]}" for name in ORDER))
found = distribution("torch-kitti")  # the package's own __init__ imports torch
place = found.locate_file("torch_kitti/raw/inertial_measurement_unit.py")
spec = importlib.util.spec_from_file_location("imu", place)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
imu = module.IMUData.open("0000000000.txt")
wrong = [name for name in ORDER if getattr(imu, name, None) != values[name]]
print("torch-kitti", found.version, "ax", imu.ax, "ay", imu.ay, "az", getattr(imu, "az", None), "wrong:", wrong)
sys.exit(0 if wrong == ["ay", "az"] and imu.ay == values["az"] else "changed: ay and az are KITTI's")
PYTHON
