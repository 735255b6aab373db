#!/usr/bin/env bash
# slamcore_utils 0.1.7's convert-openloris (OpenLORIS-Scene to the maker's data-set form, which is EuRoC's) gives the colour and
# the depth images other times than they have: it spreads each list evenly from its first stamp to its last. The class has a
# switch against this, preserve_orig_timestamps, but the command sets it to False itself and offers no option. Where no frame
# was lost that smooths a little jitter. One gap moves all the others: the frames before it are late and those after it are
# early, while the IMU, the fisheye images and the ground truth keep their own times. And a lost depth image parts colour and
# depth, which are pairs with equal stamps in that data set, for colour has one stamp more; what pairs them by stamp finds only
# the first and the last.
# Seen here, of 31 colour images at 30 a second with 1 second of nothing after the 10th, and their depths without the 21st: the
# 10th image goes 0.300 s late and the 11th 0.667 s early; of 30 pairs of equal stamps 2 are left; the fisheye images' stamps
# stay to the microsecond.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q slamcore_utils==0.1.7 numpy==1.26.4
cd "$tmp"
venv/bin/python - <<'PYTHON'
from pathlib import Path

import numpy as np

start = 1560000000.25
times = start + np.arange(31) / 30
times[10:] += 1
here = Path("cafe")
here.mkdir()
lists = {
    "color": times,
    "depth": np.delete(times, 20),
    "fisheye1": times,
    "fisheye2": times,
}
for name, stamps in lists.items():
    (here / name).mkdir()
    lines = []
    for stamp in stamps:
        (here / name / f"{stamp:.6f}.png").write_bytes(b"any")
        lines.append(f"{stamp:.6f} {name}/{stamp:.6f}.png\n")
    (here / f"{name}.txt").write_text("".join(lines))
imu = "".join(f"{start + step / 100:.6f} 0 0 9.8\n" for step in range(210))
(here / "t265_gyroscope.txt").write_text(imu)
(here / "t265_accelerometer.txt").write_text(imu + f"{start + 3:.6f} 0 0 9.8\n")
(here / "groundtruth.txt").write_text(f"{start:.6f} 0 0 0 0 0 0 1\n{start + 2:.6f} 1 0 0 0 0 0 1\n")
PYTHON
venv/bin/python -W ignore -m slamcore_utils.scripts.convert_openloris -i cafe -o made > log 2>&1 || { cat log; exit 1; }
venv/bin/python - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np


def stamps(path, column=0):
    return np.array([int(line.split(",")[0]) for line in open(path) if line[0].isdigit()])


given = np.loadtxt("cafe/color.txt", dtype=str)[:, 0].astype(float)
colour, depth, fisheye = (stamps(f"made/{name}/data.csv") for name in ("cam0", "depth0", "ir0"))
late = colour / 1e9 - given
pairs = len(set(colour) & set(depth))
kept = np.abs(fisheye / 1e9 - given).max()
print("slamcore_utils", version("slamcore_utils"), "seconds late", late.round(3), "pairs", pairs, "fisheye", kept)
same = len(colour) == 31 and len(depth) == 30 and np.abs(late).max() > 0.3 and pairs <= 2 and kept < 2e-6
sys.exit(0 if same else "changed: the frames keep their times")
PYTHON
