#!/usr/bin/env bash
# ros2-unbag 1.2.3 (opencv-python-headless 5.0.0.93) exports ROS 2 bags to files; its sensor_msgs/Image become PNG or JPEG through
# convert_image, which needs no ROS. Nothing is raised for:
# 1. bayer_rggb8, _bggr8, _gbrg8, _grbg8 and those of 16 bits: red and blue are swapped. ROS names a mosaic by its upper left
#    pixels, OpenCV's older names (COLOR_BAYER_RG2BGR) by those of the second row and column; ROS's name is put into OpenCV's.
# 2. yuv422, which is UYVY in ROS, is decoded as YUY2: brightness and colour change places.
# 3. 32FC1, depths in metres: divided by the LARGEST depth of each image and cut to 8 bits, so that the same wall has another
#    value in each image; where all of an image is nearer than 1 m it is not divided. One NaN or infinity, which REP 118
#    has for a missing or too far pixel, makes the WHOLE image black. 16UC1 is kept.
# Seen here: (B, G, R) = (20, 100, 200) of each mosaic is (200, 100, 20); red (0, 0, 254) is (0, 143, 11); 2 m beside 4 m is 127,
# beside 8 m 63; with one NaN everything is 0.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q opencv-python-headless==5.0.0.93 numpy==2.4.6
"$tmp/venv/bin/pip" install -q --no-deps ros2-unbag==1.2.3 # not its window (PySide6), nor what reads clouds
"$tmp/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import cv2
import numpy as np
from ros2_unbag.core.utils.image_utils import convert_image

COLOUR = {"b": 20, "g": 100, "r": 200}


def exported(pixels, encoding):
    height, width = pixels.shape[:2]
    return convert_image(np.ascontiguousarray(pixels).view(np.uint8).ravel(), encoding, width, height)


def mosaic(pattern):
    """8 x 8 pixels of one colour, as ROS names the upper left four of them."""
    pixels = np.zeros((8, 8), np.uint8)
    for i, channel in enumerate(pattern):
        pixels[i // 2 :: 2, i % 2 :: 2] = COLOUR[channel]
    return pixels


bayer = {
    pattern: exported(mosaic(pattern), f"bayer_{pattern}8")[4, 4].tolist()
    for pattern in ("rggb", "bggr", "gbrg", "grbg")
}
uyvy = np.full((2, 4, 2), 81, np.uint8)  # U, Y, V, Y of red
uyvy[:, 0::2, 0], uyvy[:, 1::2, 0] = 90, 240
yuv, red = exported(uyvy, "yuv422")[0, 0].tolist(), cv2.cvtColor(uyvy, cv2.COLOR_YUV2BGR_UYVY)[0, 0].tolist()
near, far, missing = (exported(np.array([[2, other]], np.float32), "32FC1")[0].tolist() for other in (4, 8, np.nan))
print("ros2-unbag", version("ros2-unbag"), "mosaics:", bayer, "red of yuv422:", yuv, "OpenCV:", red,
      "2 m beside 4 m:", near, "beside 8 m:", far, "beside NaN:", missing)  # fmt: skip
same = all(colour == [200, 100, 20] for colour in bayer.values()) and red[2] > 250 and yuv[2] < 20
sys.exit(
    0 if same and (near[0], far[0]) == (127, 63) and missing == [0, 0] else "changed: colours or depths are exported"
)
PYTHON
