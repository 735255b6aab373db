#!/usr/bin/env bash
# rosbags-image 0.10.4 (rosbags 0.11.9, opencv-python-headless 5.0.0.93) reads two kinds of valid image messages wrongly
# and silently:
# 1. image_to_cvimage ignores `step`. sensor_msgs/Image allows padded rows (step > width * channels), and drivers that align
#    rows to 4, 16 or 64 bytes send them. The picture comes out sheared: row r starts r * padding bytes too early.
#    Seen here: a picture whose row r holds the value r, 6 bytes wide with a step of 8, comes out as
#    [[0 0 0 0 0 0] [P P 1 1 1 1] [1 1 P P 2 2]] with the padding P = 99.
# 2. compressed_image_to_cvimage decodes with IMREAD_ANYCOLOR and without IMREAD_ANYDEPTH: 16-bit PNGs, which
#    compressed_image_transport writes for mono16 and 16UC1 ("16UC1; png compressed "), lose their lower byte.
#    Seen here: depths of 300, 1500 and 4000 mm come out as uint8 1, 5 and 15; the raw message keeps them.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q rosbags-image==0.10.4 rosbags==0.11.9 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np
from rosbags.image import compressed_image_to_cvimage, image_to_cvimage
from rosbags.typesys import Stores, get_typestore

types = get_typestore(Stores.ROS2_JAZZY).types
stamp = types["builtin_interfaces/msg/Time"](sec=0, nanosec=0)
header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")


def image(encoding, pixels, step, data):
    return types["sensor_msgs/msg/Image"](header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                                          is_bigendian=0, step=step, data=data)


rows = np.repeat(np.arange(3, dtype=np.uint8)[:, None], 6, axis=1)
padded = np.full((3, 8), 99, np.uint8)
padded[:, :6] = rows
sheared = image_to_cvimage(image("mono8", rows, 8, padded.reshape(-1)))
print("padded rows, true:", rows.tolist(), "read:", sheared.tolist())

depth = np.array([[300, 1500, 4000]], np.uint16)
raw = image_to_cvimage(image("16UC1", depth, 6, depth.view(np.uint8).reshape(-1)))
png = cv2.imencode(".png", depth)[1].reshape(-1)
message = types["sensor_msgs/msg/CompressedImage"](header=header, format="16UC1; png compressed ", data=png)
packed = compressed_image_to_cvimage(message)
print("16UC1, raw:", raw.tolist(), "from PNG:", packed.tolist(), packed.dtype)

same = sheared.tolist() == [[0] * 6, [99, 99, 1, 1, 1, 1], [1, 1, 99, 99, 2, 2]]
same = same and raw.tolist() == depth.tolist() and packed.dtype == np.uint8 and packed.tolist() == [[1, 5, 15]]
sys.exit(0 if same else "changed: step is heeded, or 16 bits survive")
PYTHON
