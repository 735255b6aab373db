#!/usr/bin/env bash
# bbox 0.9.4, "2D/3D bounding boxes" (BBox3D, of a KITTI-like detector), has two centres in a box, and two heights in iou_3d:
# 1. box.cx = 100 (cy, cz) changes what is printed, not the corners, nor `center`. box.center = ... changes the corners, not
#    cx, cy, cz. A tracker that moves its boxes by either has moved half of them.
# 2. iou_3d takes x and y of the corners and z of cz, so that it depends on which of the two was set; and it takes cz, which is the
#    centre for the corners, for the TOP of the box. Boxes of one height are compared rightly, boxes of two are not.
# 3. is_center=False, "back-bottom-left corner": half of the size is added before the box is turned. A turned one does not have
#    its corner there.
# Seen here, boxes of 4 x 2 x 2 m: moved by 100 m with cx, IoU 1.0; put a metre higher with center, which is half of the height,
# IoU 1.0 (it is 1/3); beside one of 4 x 2 x 4 m, 2 m higher, 0.5 (it is 0.2); the corner (10, 0, 0) turned by 90 degrees:
# (13, -1, 0). The versions of numpy are those that it needs (round_).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q bbox==0.9.4 numpy==1.26.4 pyquaternion==0.9.9
"$tmp/venv/bin/python" -W ignore - <<'PYTHON'
import math
import sys
from importlib.metadata import version

import numpy as np
from bbox import BBox3D
from bbox.metrics import iou_3d

SIZE = {"length": 4, "width": 2, "height": 2}
first, far, high = (BBox3D(0, 0, 0, **SIZE) for _ in range(3))
far.cx = 100.0
high.center = np.array([0, 0, 1.0])
taller = BBox3D(0, 0, 2, length=4, width=2, height=4)
turned = BBox3D(10, 0, 0, **SIZE, euler_angles=[0, 0, math.pi / 2], is_center=False)
ious = [float(iou_3d(first, other)) for other in (far, high, taller)]
corner = turned.p1.round(6).tolist()
print("bbox", version("bbox"), "IoU of 100 m away, 1 m higher, taller:", ious, "corner of a turned box:", corner, "cz:", high.cz)
same = ious == [1, 1, 0.5] and corner == [13, -1, 0] and far.p1[0] == -2 and high.cz == 0 and high.p1[2] == 0
sys.exit(0 if same else "changed: a box has one centre")
PYTHON
