#!/usr/bin/env bash
# depth_tools 0.8.0, depths and cameras for monocular networks:
# 1. CameraIntrinsics.from_fov: the focal length is half the width TIMES THE COSINE of half the angle, where it is half the
#    width divided by the tangent. At 60 degrees it is half of what it should be, at 90 degrees 0.71 of it, at 104 about
#    right; a point cloud of such a camera is spread out, straight walls stay straight, and no error is to be seen but that
#    rooms are too wide.
# 2. DepthClip.on_mask: a mask of floats, which its text allows beside one of bools, becomes 0 EVERYWHERE, as if nothing were
#    within the range (it asks for what is above the upper end and below the lower one at once). A loss over it is 0.
# 3. The middle of the lower left pixel is (0.5, 0.5) by its text and for depth_2_point_cloud; depth_map_2_dist_map and its
#    inverse have it at (0, 0), half a pixel away: distances of the same camera and depths do not agree.
# Seen here, 640 pixels wide: 60 degrees 277.1 (554.3), 90 degrees 226.3 (320.0); a range of 1 to 10, depths 0.5, 2, 3, 20:
# bools False, True, True, False, floats 0, 0, 0, 0; a focal length of 2 pixels, depth 1: distance 1.0308 by the points, 1 by
# the map. Matplotlib is not needed for this: it is stood in for. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q depth_tools==0.8.0 numpy==2.2.6
"$tmp/venv/bin/python" -W ignore - <<'PYTHON'
import math
import sys
from importlib.metadata import version
from unittest.mock import MagicMock

for name in ("matplotlib", "matplotlib.pyplot"):
    sys.modules.setdefault(name, MagicMock())

import numpy as np
from depth_tools import CameraIntrinsics, CoordSys, DepthClip, depth_2_point_cloud, depth_map_2_dist_map


def focal(degrees):
    """The focal length by depth_tools, and by the tangent."""
    angle = math.radians(degrees)
    camera = CameraIntrinsics.from_fov(width=640, height=480, fov_rad=angle, fov_x=True)
    return round(camera.f_x, 1), round(320 / math.tan(angle / 2), 1)


narrow, wide = focal(60), focal(90)
depths = np.array([0.5, 2, 3, 20], np.float32)
masks = [DepthClip((1, 10)).on_mask(gt_depth=depths, mask=np.ones(4, kind)).tolist() for kind in (bool, np.float32)]
corner = np.ones((1, 1, 1), np.float32)  # one pixel
camera = CameraIntrinsics(f_x=2, f_y=1000, c_x=0, c_y=0)
point = depth_2_point_cloud(
    depth_map=corner, depth_mask=corner > 0, intrinsics=camera, out_coord_sys=CoordSys.LH_YUp
)
distances = [round(float(np.linalg.norm(point)), 4), round(float(depth_map_2_dist_map(depth_map=corner, cam=camera)[0, 0, 0]), 4)]
print("depth_tools", version("depth_tools"), "focal lengths at 60 and 90 degrees:", narrow, wide, "masks:", masks,
      "distance by the point and by the map:", distances)  # fmt: skip
same = narrow == (277.1, 554.3) and wide == (226.3, 320.0) and masks == [[False, True, True, False], [0, 0, 0, 0]]
sys.exit(0 if same and distances == [1.0308, 1] else "changed: focal lengths, masks or pixels")
PYTHON
