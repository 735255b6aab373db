#!/usr/bin/env bash
# forge-robotics 0.2.0 makes data sets for vision-language-action models (LeRobot, RLDS) of rosbags, among others. Of a bag that
# rosbags 0.11.9 wrote:
# 1. Only the FIRST image topic is read, in the bag's order. forge.inspect lists all cameras; the frames have one, and
#    nothing says that a wrist camera or a depth camera is gone.
# 2. bgr8, which most camera drivers of ROS send, is handed on as it is, though inspect says "rgb": red is blue in the data set
#    and for every model that is trained on it.
# 3. A depth image, 16UC1, comes as two channels of bytes, lower and upper.
# Times are the recorder's, not the headers'.
# Seen here: of two cameras one; (B, G, R) = (10, 0, 200) is (10, 0, 200); 1500 mm is (220, 5); a header's 50 s is 100 s.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q forge-robotics==0.2.0 rosbags==0.11.9 numpy==2.2.6
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import forge
import numpy as np
from forge.formats.registry import FormatRegistry
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

store = get_typestore(Stores.ROS2_HUMBLE)
KIND = "sensor_msgs/msg/Image"
colour = np.zeros((2, 3, 3), np.uint8)
colour[..., 0], colour[..., 2] = 10, 200  # blue, red
depth = np.full((2, 3), 1500, np.uint16)


def frames(bag, **cameras):
    """What each camera's topic has in the first frame, and its time."""
    with Writer(Path(bag), version=9) as writer:
        for name, (encoding, pixels) in cameras.items():
            stamp = store.types["builtin_interfaces/msg/Time"](50, 0)
            header = store.types["std_msgs/msg/Header"](stamp, name)
            data = pixels.view(np.uint8).ravel()
            image = store.types[KIND](header, 2, 3, encoding, 0, pixels.strides[0], data)
            connection = writer.add_connection(f"/{name}/image_raw", KIND, typestore=store)
            for i in range(2):
                writer.write(connection, (100 + i) * 10**9, store.serialize_cdr(image, KIND))
    (episode,) = FormatRegistry.get_reader("rosbag").read_episodes(Path(bag))
    first = list(episode.frames())[0]
    return first.timestamp, {name: image.load() for name, image in first.images.items()}


time, cameras = frames("drive", head=("bgr8", colour), wrist=("bgr8", colour))
_, depths = frames("depth", depth=("16UC1", depth))
listed = {name: one.encoding for name, one in forge.inspect("drive").cameras.items()}
(seen,), (millimetres,) = cameras.values(), depths.values()
print("forge-robotics", version("forge-robotics"), "listed:", listed, "read:", list(cameras), "a pixel:", seen[0, 0].tolist(),
      "depth:", millimetres.shape, millimetres.dtype, millimetres[0, 0].tolist(), "time:", time)  # fmt: skip
same = len(listed) == 2 and set(listed.values()) == {"rgb"} and seen[0, 0].tolist() == [10, 0, 200] and time == 100
same = same and millimetres.shape == (2, 3, 2) and millimetres[0, 0].tolist() == [220, 5]
sys.exit(0 if same else "changed: all cameras are read, in RGB and in millimetres")
PYTHON
