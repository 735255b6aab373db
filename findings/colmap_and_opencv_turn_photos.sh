#!/usr/bin/env bash
# pycolmap 4.2.1 and opencv-python-headless 5.0.0.93 do not see the same picture in a photo that was taken with the camera
# held sideways or upside down: cv2.imread turns it as EXIF says, of PNG files, too; COLMAP does not (Bitmap.read here, which
# its features and cameras come from), nor does Pillow. So a COLMAP model's intrinsics, poses and 2D points
# are of an image that cv2.imread never shows. Sideways one may notice by the size; upside down (EXIF 3, a phone or a
# camera under a drone) the size is the same, and every feature lies at the opposite place. IMREAD_IGNORE_ORIENTATION and
# IMREAD_UNCHANGED give COLMAP's picture; IMREAD_COLOR, IMREAD_GRAYSCALE, IMREAD_ANYCOLOR and the default do not.
# Seen here: a photo of 40 x 30 with its upper left quarter white, EXIF 3: white at the upper left in pycolmap and Pillow, at
# the lower right in OpenCV; EXIF 6: 40 x 30 there, 30 x 40 here.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pycolmap==4.2.1 opencv-python-headless==5.0.0.93 pillow==12.0.0 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys

import cv2
import numpy as np
import pycolmap
from PIL import Image

picture = np.zeros((30, 40, 3), np.uint8)
picture[:15, :20] = 255


def white(pixels):
    """Width, height and where the white quarter is."""
    image = np.asarray(pixels)
    (height, width), bright = image.shape[:2], image.reshape(*image.shape[:2], -1)[..., 0] > 127
    rows, columns = np.nonzero(bright)
    return width, height, ("upper" if rows.mean() < height / 2 else "lower", "left" if columns.mean() < width / 2 else "right")


same = True
for suffix in ("jpg", "png"):
    for orientation in (3, 6):
        path, exif = f"{sys.argv[1]}/{orientation}.{suffix}", Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(picture).save(path, exif=exif)
        stored = {
            "pycolmap": white(pycolmap.Bitmap.read(path, True).to_array()),
            "Pillow": white(Image.open(path)),
            "IMREAD_UNCHANGED": white(cv2.imread(path, cv2.IMREAD_UNCHANGED)),
            "IMREAD_IGNORE_ORIENTATION": white(cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)),
        }
        flags = (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE, cv2.IMREAD_ANYCOLOR)
        turned = {white(cv2.imread(path))} | {white(cv2.imread(path, flag)) for flag in flags}
        print(suffix, "EXIF", orientation, stored, "cv2.imread:", turned)
        expected = (40, 30, ("lower", "right")) if orientation == 3 else (30, 40, ("upper", "right"))
        same = same and set(stored.values()) == {(40, 30, ("upper", "left"))} and turned == {expected}
sys.exit(0 if same else "changed: both turn the photo, or neither")
PYTHON
