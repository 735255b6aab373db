#!/usr/bin/env bash
# pypfm 1.4.4 reads and writes .pfm, the files of disparities and depths (Middlebury, ETH3D, FlyingThings), beside OpenCV 4.11
# of the same file:
# 1. The rows of a .pfm go from the BOTTOM up. They are handed on as they lie: the picture is upside down, and written the
#    same way, so that there and back is right and what other tools write, or read, is not. Disparities of the sky are those
#    of the road; with the images, which are the right way up, nothing fits.
# 2. A positive scale in the header says that the numbers are big-endian. It is read, and not used: they are taken for
#    little-endian, and are something else without a word.
# Seen here, two rows, 1 above 2, that cv2.imwrite wrote: 2 above 1; the same big-endian: 4.6e-41 and 9e-44, of cv2.imread 1
# and 2. pyzfp, for compressed files, is stood in for. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 opencv-python-headless==4.11.0.86
"$tmp/venv/bin/pip" install -q --no-deps pypfm==1.4.4
cd "$tmp"
venv/bin/python - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path
from unittest.mock import MagicMock

sys.modules["pyzfp"] = MagicMock()

import cv2
import numpy as np
from pypfm import PFMLoader

UPRIGHT = np.array([[1, 1, 1], [2, 2, 2]], np.float32)
cv2.imwrite("little.pfm", UPRIGHT)
Path("big.pfm").write_bytes(b"Pf\n3 2\n1.0\n" + UPRIGHT[::-1].astype(">f4").tobytes())


def columns(path):
    """The first column, from the top, by pypfm and by OpenCV."""
    return PFMLoader(color=False).load_pfm(path)[:, 0].tolist(), cv2.imread(path, cv2.IMREAD_UNCHANGED)[:, 0].tolist()


little, big = columns("little.pfm"), columns("big.pfm")
print("pypfm", version("pypfm"), "little-endian, and by OpenCV:", little, "big-endian:", big)
same = little == ([2, 1], [1, 2]) and big[1] == [1, 2] and all(abs(value) < 1e-30 for value in big[0])
sys.exit(0 if same else "changed: the first row is the upper one")
PYTHON
