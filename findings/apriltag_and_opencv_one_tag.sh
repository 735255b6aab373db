#!/usr/bin/env bash
# pupil-apriltags 1.0.4.post11 and opencv-python-headless 5.0.0.93 (aruco) find the same tag36h11 in the same picture, and
# 1. half a pixel apart: the middle of the upper left pixel is (0.5, 0.5) for AprilTag and (0, 0) for OpenCV, for its camera
#    matrices and for ROS's CameraInfo, too. Corners of AprilTag in solvePnP or calibrateCamera, and estimate_tag_pose with
#    a matrix of OpenCV, shift everything by half a pixel: 1.3 cm at 10 m with a focal length of 400, and no residual
#    shows it. OpenCV's own CORNER_REFINE_APRILTAG gives corners of that kind, half a pixel from those of the other ways.
# 2. half a turn apart: a tag that OpenCV drew upright is upside down for AprilTag, whose pose has z into the tag where
#    OpenCV's has it out of the tag. From one to the other is half a turn about y, and a board that looks right with one is
#    turned with the other.
# Seen here, a tag with its middle at 199.5, 199.5 (pixels' middles are whole numbers): AprilTag 200.0, OpenCV 199.5 as it
# finds it and with CORNER_REFINE_SUBPIX, 200.0 with CORNER_REFINE_APRILTAG; rotations diag(-1, -1, 1) and diag(1, -1, -1).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pupil-apriltags==1.0.4.post11 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np
from pupil_apriltags import Detector

tags = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
cells = cv2.aruco.generateImageMarker(tags, 7, 8, borderBits=1)
picture = np.full((400, 400), 255, np.uint8)
picture[100:300, 100:300] = np.kron(cells, np.ones((25, 25), np.uint8))  # its edges are at 99.5 and 299.5
picture = cv2.GaussianBlur(picture, (0, 0), 1.0)
(tag,) = Detector("tag36h11", quad_decimate=1.0).detect(picture, True, (400.0, 400.0, 199.5, 199.5), 0.2)

ways, settings = {}, cv2.aruco.DetectorParameters()
for name in ("NONE", "SUBPIX", "APRILTAG"):
    settings.cornerRefinementMethod = getattr(cv2.aruco, f"CORNER_REFINE_{name}")
    (corners,), ids, _ = cv2.aruco.ArucoDetector(tags, settings).detectMarkers(picture)
    assert ids.item() == tag.tag_id == 7
    ways[name] = corners[0]
square = 0.1 * np.array([(-1, 1, 0), (1, 1, 0), (1, -1, 0), (-1, -1, 0)], float)  # as OpenCV has a marker's corners
matrix = np.array([(400, 0, 199.5), (0, 400, 199.5), (0, 0, 1)])
_, turn, _ = cv2.solvePnP(square, ways["SUBPIX"], matrix, None, flags=cv2.SOLVEPNP_SQPNP)
rotations = tag.pose_R, cv2.Rodrigues(turn)[0]
middles = {"AprilTag": tag.corners.mean(0)} | {name: corners.mean(0) for name, corners in ways.items()}
print("middle of the tag:", {name: middle.round(2).tolist() for name, middle in middles.items()})
print("diagonals of the rotations, AprilTag and OpenCV:", *(np.diag(rotation).round(2).tolist() for rotation in rotations))
wanted = {"AprilTag": 200, "NONE": 199.5, "SUBPIX": 199.5, "APRILTAG": 200}
same = all(np.allclose(middles[name], value, atol=0.05) for name, value in wanted.items())
same = same and np.allclose(rotations[0], np.diag([-1, -1, 1]), atol=0.02)
sys.exit(0 if same and np.allclose(rotations[1], np.diag([1, -1, -1]), atol=0.02) else "changed: one place and one pose")
PYTHON
