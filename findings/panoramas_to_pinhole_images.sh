#!/usr/bin/env bash
# py360convert 1.0.4 (e2p) and pyequilib 0.6.0 (equi2pers) cut a pinhole image out of a 360 degree panorama, for networks and
# for COLMAP, which know no panoramas. Both are told its size and field of view, and the camera matrix that one computes of
# these, f = width / 2 / tan(fov / 2) and c = (width - 1) / 2 where pixels' middles are whole numbers, is neither's:
# 1. py360convert spreads the field of view between the MIDDLES of the outer pixels: f = (width - 1) / 2 / tan(fov / 2). Of 64
#    pixels it is 1.6 % less, of 640 0.16 %.
# 2. pyequilib has that f and c = width / 2, half a pixel off, and what it puts there lies ONE PIXEL OF THE PANORAMA further
#    to the right and down, 0.35 degrees with a panorama of 1024 pixels: an offset of half a pixel with the wrong sign.
# Found by a panorama whose pixels hold their own direction, which is what an image of it then says of its rays.
# Seen here, 64 x 64 pixels, 90 degrees, a panorama of 1024 x 512: f 31.50 with py360convert; with pyequilib each of the rays is
# 1.00 pixels of the panorama from that of f = 32, c = 32.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q py360convert==1.0.4 pyequilib==0.6.0 torch==2.13.0+cpu numpy==2.4.6 scipy==1.17.1
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import equilib
import numpy as np
import py360convert

HEIGHT, WIDTH, SIZE, VIEW = 512, 1024, 64, 90
longitude = ((np.arange(WIDTH) + 0.5) / WIDTH - 0.5) * 2 * np.pi
latitude = (0.5 - (np.arange(HEIGHT)[:, None] + 0.5) / HEIGHT) * np.pi
x, y, z = np.cos(latitude) * np.sin(longitude), -np.sin(latitude) + 0 * longitude, np.cos(latitude) * np.cos(longitude)
panorama = np.stack([x, y, z], -1).astype(np.float32)  # to the right, down, forwards: each pixel's own direction


def angles(image):
    """Of the rays of the middle row to the right, of the middle column downwards, radians: (2, pixels)."""
    middle = len(image) // 2
    row, column = image[middle], image[:, middle]
    return np.stack([np.arctan2(row[:, 0], row[:, 2]), np.arctan2(column[:, 1], column[:, 2])])


def pinhole(focal, centre):
    return np.arctan((np.arange(SIZE) - centre) / focal)


first = angles(py360convert.e2p(panorama, (VIEW, VIEW), 0, 0, (SIZE, SIZE)))
ahead = {"roll": 0.0, "pitch": 0.0, "yaw": 0.0}
second = equilib.equi2pers(panorama.transpose(2, 0, 1), ahead, SIZE, SIZE, float(VIEW), mode="bilinear")
second = angles(second.transpose(1, 2, 0))
half, pixel = np.tan(np.radians(VIEW / 2)), 2 * np.pi / WIDTH
expected = pinhole(SIZE / 2 / half, (SIZE - 1) / 2)
for name, found in (("py360convert", first), ("pyequilib", second)):
    off = np.abs(found - expected).max() / pixel
    print(name, version(name), f"rays are off by up to {off:.2f} pixels of the panorama from f = 32, c = 31.5")
outer, moved = pinhole((SIZE - 1) / 2 / half, (SIZE - 1) / 2), pinhole(SIZE / 2 / half, SIZE / 2)
print("from f = 31.5, c = 31.5:", np.abs(first - outer).max() / pixel, "from f = c = 32:", (second - moved).min() / pixel)
same = np.allclose(first, outer, atol=0.02 * pixel) and np.allclose(second - moved, pixel, atol=0.02 * pixel)
same = same and np.abs(first - expected).max() > pixel
sys.exit(0 if same else "changed: focal length and principal point are those of the field of view")
PYTHON
