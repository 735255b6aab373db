#!/usr/bin/env bash
# pykitti 0.3.1, raw: get_velo(i), get_cam2(i), oxts[i] and timestamps[i] are each the i-th FILE of their own folder, whatever
# the files are called. In KITTI's raw data frames are missing here and there: 2011_09_26_drive_0009_sync has images and poses
# 0 to 446 and no scans 177 to 180. From there on every scan goes with the image, the pose and the time of four frames before
# it, 0.4 s, metres of the road at a vehicle's speed; the first 177 frames, the ones that one looks at, are right. `frames`
# counts files, too. Nothing is raised before the end of the drive.
# Seen here, frames 0 to 4 without scan 2: images 0, 1, 2, 3 with scans 0, 1, 3, 4; frames=range(1, 4): 1, 2, 3 with 1, 3, 4.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pykitti==0.3.1 opencv-python-headless==5.0.0.93 pillow==12.0.0 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pykitti
from PIL import Image

root = Path(sys.argv[1])
day = root / "2011_09_26"
drive = day / "2011_09_26_drive_0009_sync"
for sensor in ("image_02", "velodyne_points", "oxts"):
    (drive / sensor / "data").mkdir(parents=True)
for number in range(5):
    name = f"{number:010d}"
    Image.new("RGB", (4, 4), (number,) * 3).save(drive / f"image_02/data/{name}.png")
    packet = ["49.0", "8.4", "112.0"] + ["0.0"] * 22 + ["4", "11", "6", "6", "6"]
    (drive / f"oxts/data/{name}.txt").write_text(" ".join(packet))
    if number != 2:
        np.full((3, 4), number, np.float32).tofile(drive / f"velodyne_points/data/{name}.bin")
stamps = "".join(f"2011-09-26 13:02:25.{number}00000000\n" for number in range(5))
(drive / "oxts/timestamps.txt").write_text(stamps)
unit = "1 0 0 0 1 0 0 0 1"
cameras = "".join(f"P_rect_0{c}: 700 0 2 0 0 700 2 0 0 0 1 0\nR_rect_0{c}: {unit}\n" for c in range(4))
(day / "calib_cam_to_cam.txt").write_text(cameras)
for name in ("calib_velo_to_cam", "calib_imu_to_velo"):
    (day / f"{name}.txt").write_text(f"R: {unit}\nT: 0 0 0\n")


def pairs(count, **kwargs):
    """Numbers of the image and of the scan that pykitti has as the i-th."""
    data = pykitti.raw(str(root), "2011_09_26", "0009", **kwargs)
    return [(int(np.asarray(data.get_cam2(i))[0, 0, 0]), int(data.get_velo(i)[0, 0])) for i in range(count)]


found = pairs(4), pairs(3, frames=range(1, 4))
print("pykitti", version("pykitti"), "(image, scan):", *found)
sys.exit(0 if found == ([(0, 0), (1, 1), (2, 3), (3, 4)], [(1, 1), (2, 3), (3, 4)]) else "changed: files go by their numbers")
PYTHON
