#!/usr/bin/env bash
# imageio 2.38.1 with imageio-ffmpeg 0.8.1 (what it reads .mp4 with unless told otherwise): a video whose frames are not evenly
# spaced, as phones write them and as a robot's recording with lost images is, comes as frames at an even rate: some
# are there several times, some not at all. Frame i is no longer the i-th image, its stamp, its pose or its label, though
# count_frames() says the true number. PyAV (imageio's plugin "pyav", too) and cv2.VideoCapture give the images as they are.
# Seen here: 10 frames at 0, 33, 67, 100, 300, ... 467 ms (a gap of 0.2 s), frame i of brightness 20 i + 20: count_frames() 10,
# read 19, with frame 3 five times and frame 8 six times, and the last one missing.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q imageio==2.38.1 imageio-ffmpeg==0.8.1 av==18.1.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from fractions import Fraction
from importlib.metadata import version

import av
import cv2
import imageio
import imageio.v3 as iio
import numpy as np

video, milliseconds = f"{sys.argv[1]}/drive.mp4", [0, 33, 67, 100, 300, 333, 367, 400, 433, 467]
with av.open(video, "w") as file:
    stream = file.add_stream("libx264", rate=30)
    stream.width = stream.height = 64
    stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 1000)
    for number, time in enumerate(milliseconds):
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number + 20, np.uint8), format="rgb24")
        frame.pts, frame.time_base = time, Fraction(1, 1000)
        file.mux(stream.encode(frame))
    file.mux(stream.encode())


def numbers(frames):
    """Which image each frame is, by its brightness."""
    return [round((float(np.mean(frame)) - 20) / 20) for frame in frames]


capture, images = cv2.VideoCapture(video), []
while (read := capture.read())[0]:
    images.append(read[1])
reader = imageio.get_reader(video)
count, found = reader.count_frames(), numbers(reader)
others = {"v3": numbers(iio.imread(video)), "pyav": numbers(iio.imread(video, plugin="pyav")), "cv2": numbers(images)}
print("imageio", imageio.__version__, "imageio-ffmpeg", version("imageio-ffmpeg"), "counts", count, "reads", found, others)
right = list(range(10))
same = count == 10 and others["pyav"] == others["cv2"] == right and others["v3"] == found
same = same and len(found) > 15 and found.count(3) > 2 and 9 not in found
sys.exit(0 if same else "changed: frames come as they are")
PYTHON
