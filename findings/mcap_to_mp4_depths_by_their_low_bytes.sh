#!/usr/bin/env bash
# mcap-to-mp4 0.6.0 makes videos of the images in ROS 2 recordings. Of raw images (sensor_msgs/Image) it divides the bytes by
# the pixels and takes what comes out for the number of channels of 8 bits; of the encoding it looks at bgr8 only:
# 1. 16UC1 and mono16, depth and thermal cameras, are two channels for it: grey is the LOW byte of each value, the high one is
#    taken for transparency. Depth begins anew every 256 mm: 1.000 m and 2.280 m are the same grey, and a ramp is a set of
#    stripes.
# 2. 32FC1 is four channels: the bytes of a float are red, green, blue and transparency.
# 3. bgra8, which ZED cameras send, has red and blue swapped; bgr8 has not.
# Nothing is said but the number of channels.
# Seen here, of 64 x 32 pixels, left and right: depths of 1000 and 2280 mm: 231 and 231; 2.5 m as float: (0, 0, 31); blue and
# red as bgra8: (253, 0, 0) and (0, 0, 254), as bgr8 (0, 0, 254) and (253, 0, 0).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 pillow==11.3.0 mcap==1.3.1 mcap-ros2-support==0.5.7 imageio==2.37.0 \
    imageio-ffmpeg==0.6.0 rosbags==0.11.0
"$tmp/venv/bin/pip" install -q --no-deps mcap-to-mp4==0.6.0 # av is for compressed videos
cd "$tmp"
PATH="$tmp/venv/bin:$PATH" python -W ignore - <<'PYTHON'
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import imageio
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
Image, Header, Time = (
    STORE.types[name] for name in ("sensor_msgs/msg/Image", "std_msgs/msg/Header", "builtin_interfaces/msg/Time")
)


def halves(left, right, kind, *channels):
    """An image of two halves."""
    image = np.empty((32, 64, *channels), kind)
    image[:, :32], image[:, 32:] = left, right
    return image


def seen(encoding, image):
    """The pixels left and right in the video of this image."""
    data = image.view(np.uint8).ravel()
    with Writer(Path(encoding), version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/image", Image.__msgtype__, typestore=STORE)
        for second in range(5):
            header = Header(Time(second, 0), "camera")
            message = Image(header, 32, 64, encoding, 0, len(data) // 32, data)
            writer.write(topic, second * 10**9, STORE.serialize_cdr(message, Image.__msgtype__))
    command = ["mcap-to-mp4", str(next(Path(encoding).glob("*.mcap"))), "-t", "/image", "-o", f"{encoding}.mp4"]
    subprocess.run(command, check=True, capture_output=True)
    frame = imageio.mimread(f"{encoding}.mp4", memtest=False)[0]
    return frame[16, 8].tolist(), frame[16, 56].tolist()


depth = seen("16UC1", halves(1000, 2280, np.uint16))
metres = seen("32FC1", halves(2.5, 2.5, np.float32))
four = seen("bgra8", halves((255, 0, 0, 255), (0, 0, 255, 255), np.uint8, 4))
three = seen("bgr8", halves((255, 0, 0), (0, 0, 255), np.uint8, 3))
print("mcap-to-mp4", version("mcap-to-mp4"), "1000 and 2280 mm:", depth, "2.5 m:", metres, "blue and red as bgra8:", four,
      "as bgr8:", three)  # fmt: skip
near = lambda pixel, expected: np.abs(np.array(pixel) - expected).max() <= 8  # noqa: E731 -- what the video's coding leaves
same = near(depth[0], 1000 & 255) and near(depth[1], 1000 & 255) and near(metres[0], (0, 0, 32))
same = same and near(four[0], (255, 0, 0)) and near(four[1], (0, 0, 255)) and near(three[0], (0, 0, 255))
sys.exit(0 if same else "changed: depths are grey by their value")
PYTHON
