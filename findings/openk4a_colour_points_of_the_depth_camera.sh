#!/usr/bin/env bash
# open-azure-kinect 0.1.0 (openk4a), recordings of Azure Kinects without the maker's library: transform_color_to_3d of its
# CameraTransform gives points in the frame of the DEPTH camera, where its description says the colour camera's. The cameras are
# 32 mm and about 6 degrees apart, so what is laid over the colour image with them is off, the farther the more.
# More: the way from a colour pixel to a depth pixel tries 50 depths from 0.2 to 5 m, 98 mm apart, and takes the best as it is,
# so near pixels are off by whole pixels, and what is farther (one mode sees 5.46 m) has 5 m. Rays are looked up by the whole
# part of a pixel, depths by the nearest. Pixels without a depth are points at (0, 0, 0) in create_pointcloud. And the list of
# colour modes has 1140 for 1440, so recordings of 1440p are refused.
# Seen here, a flat wall 2 m before the depth camera: the point of colour pixel (960, 540) is 213 mm from where it is in the
# colour camera's frame and 2 mm from where it is in the depth camera's; a wall at 0.45 m comes 2.7 depth pixels off; 3 empty
# pixels of 64 x 48 are 3 points of zeros.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 opencv-python-headless==4.12.0.88
"$tmp/venv/bin/pip" install -q --no-deps open-azure-kinect==0.1.0
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import cv2
import numpy as np
from openk4a.calibration import CameraCalibration, Extrinsics, Intrinsics
from openk4a.transform import CameraTransform
from openk4a.types import ColorResolution


def camera(width, height, focal, rotation, translation):
    matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return CameraCalibration(Intrinsics(matrix, np.zeros(8)), Extrinsics(rotation, translation), width, height, 1.7)


tilt, _ = cv2.Rodrigues(np.radians([6.0, 0, 0]))
apart = np.array([-0.032, -0.002, 0.004])
depth = camera(640, 576, 504.0, np.eye(3), np.zeros(3))
colour = camera(1920, 1080, 914.0, tilt, apart)
cameras = CameraTransform(colour, depth)
pixel = np.array([[960.0, 540.0]])


def wall(metres):
    """Where the ray of the pixel meets the wall: in the depth camera and in the colour camera."""
    ray = tilt.T @ np.linalg.inv(colour.intrinsics.camera_matrix) @ [*pixel[0], 1]
    eye = -tilt.T @ apart
    place = eye + ray * (metres - eye[2]) / ray[2]
    return place, tilt @ place + apart


far = np.full((576, 640), 2000, np.uint16)
got = cameras.transform_color_to_3d(pixel, far)[0]
in_depth, in_colour = wall(2.0)
off = [round(1000 * float(np.linalg.norm(got - place))) for place in (in_colour, in_depth)]

near = np.full((576, 640), 450, np.uint16)
place, _ = wall(0.45)
right = 504.0 * place[:2] / place[2] + [320, 288]
pixels = float(np.linalg.norm(cameras.transform_2d_color_to_depth(pixel, near)[0] - right))

small = CameraTransform(colour, camera(64, 48, 50.0, np.eye(3), np.zeros(3)))
holes = np.full((48, 64), 1000, np.uint16)
holes[5, 7:10] = 0
cloud = small.create_pointcloud(holes)
zeros = int((~cloud.any(axis=1)).sum())

modes = [mode.value for mode in ColorResolution]
print("open-azure-kinect", version("open-azure-kinect"), "mm off in the colour and depth camera", off)
print("depth pixels off", round(pixels, 2), "points", len(cloud), "zeros", zeros, "modes", modes)
same = off[0] > 100 and off[1] < 40 and pixels > 1 and len(cloud) == 64 * 48 and zeros == 3 and 1440 not in modes
sys.exit(0 if same else "changed: the frame of points, depth pixels, empty pixels or modes")
PYTHON
