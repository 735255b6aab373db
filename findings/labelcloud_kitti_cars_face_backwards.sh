#!/usr/bin/env bash
# labelCloud 1.1.1, the annotation tool for 3D boxes, with KITTI's label_2 (format `kitti`, with calibration): rotation_y is turned
# by half a turn on the way in, and back on the way out. It is 0 where an object looks along the camera's x, to the right,
# and -pi/2 where it drives away from the camera. Of KITTI's own labels every car looks backwards, in the tool, whose arrow
# shows it, and in what is exported from there as centroid_rel, centroid_abs or vertices; a car that is labelled the right way
# round in the tool is written as one that comes towards the camera. Position and size are right, IoU does not see it, and KITTI
# in, KITTI out is right; a detector learns headings, and velocities with it, the wrong way round. What comes out
# may be beyond pi, too, which KITTI's rotation_y never is.
# Seen here: rotation_y -1.5708, straight ahead, is 180 degrees about z in the LiDAR's frame; a box of 0 degrees, ahead, is written
# as 1.5708, one of -170 degrees as 4.5379.
# Its windows are not needed: their libraries are stood in for. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 setuptools==80.9.0 # it asks for pkg_resources
"$tmp/venv/bin/pip" install -q --no-deps labelCloud==1.1.1
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path
from unittest.mock import MagicMock

for name in ("OpenGL", "OpenGL.GL", "OpenGL.GLU", "PyQt5", "PyQt5.QtGui", "PyQt5.QtWidgets", "open3d"):
    sys.modules[name] = MagicMock()

from labelCloud.control.config_manager import config
from labelCloud.io.labels import KittiFormat
from labelCloud.model import BBox

# A camera at the LiDAR, which looks along the LiDAR's x: its x is -y, its y is -z, its z is x.
CALIBRATION = "R0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
AHEAD = "Car 0 0 0 0 0 0 0 1.5 1.6 4.0 0.0 1.0 10.0 -1.5708"
for folder in ("calib", "labels"):
    Path(folder).mkdir()
Path("calib/1.txt").write_text(CALIBRATION)
config["FILE"]["calib_folder"] = "calib"


def written(degrees):
    """rotation_y of a box in the LiDAR's frame."""
    box = BBox(10, 0, -0.25, 4.0, 1.6, 1.5)
    box.set_rotations(0, 0, degrees % 360)
    box.set_classname("Car")
    KittiFormat(Path("labels"), 4).export_labels([box], Path("1.bin"))
    return float(Path("labels/1.txt").read_text().split()[14])


Path("labels/1.txt").write_text(f"{AHEAD}\n")
(box,) = KittiFormat(Path("labels"), 4).import_labels(Path("1.bin"))
place, heading = [round(float(value), 3) for value in box.get_center()], round(box.get_z_rotation(), 2)
ahead, behind = written(0), written(-170)
print(
    "labelCloud",
    version("labelCloud"),
    "read:",
    place,
    "degrees:",
    heading,
    "written, of 0 and -170 degrees:",
    ahead,
    behind,
)
same = place == [10, 0, -0.25] and heading == 180 and ahead == 1.5708 and behind == 4.5379
sys.exit(0 if same else "changed: cars look ahead")
PYTHON
