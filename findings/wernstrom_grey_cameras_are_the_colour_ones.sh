#!/usr/bin/env bash
# wernstrom 0.4.4, a reader of KITTI: cam0 and cam1 give the files of cameras 2 and 3 made grey, though image_00 and image_01 are
# there and listed in cam0_files; calib.P_rect_00 belongs to a camera 6 cm from the one seen. And the stamps come
# from arange(0, n * 0.1, 0.1), whose length for some n is n + 1: len() is one more than there are frames, and a loop over it ends
# in IndexError. The stamps recorded with the drive are not read.
# Seen here: 3 frames, image_00 all 10 and image_02 all 200: get_cam0(0) is 200, len 4. Of the counts 1 to 1000, 102 are so.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q wernstrom==0.4.4 squaternion==2025.3.2 numpy==2.2.6 pillow==11.2.1
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import wernstrom
from PIL import Image

GREYS = {"image_00": 10, "image_01": 20, "image_02": 200, "image_03": 210}


def drive(frames):
    """The drive 0000 with so many lines of GPS, and three images of each camera."""
    for name, grey in GREYS.items():
        folder = Path("kitti") / name / "0000"
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(3):
            Image.fromarray(np.full((4, 6), grey, np.uint8)).save(folder / f"{index:06d}.png")
    for name in ("calib", "oxts"):
        (Path("kitti") / name).mkdir(exist_ok=True)
    shifts = {"P0": 0.0, "P1": -387.6, "P2": 44.9, "P3": -339.5}
    lines = [f"{name}: 721.5 0 609.6 {shift} 0 721.5 172.9 0 0 0 1 0" for name, shift in shifts.items()]
    (Path("kitti") / "calib" / "0000.txt").write_text("\n".join(lines) + "\n")
    line = " ".join(["49.0", "8.4", "110.0"] + ["0.0"] * 22 + ["4", "9", "4", "4", "6"])
    (Path("kitti") / "oxts" / "0000.txt").write_text((line + "\n") * frames)
    return wernstrom.raw("kitti", "00")


loaded = drive(3)
seen = [int(read(0)[0, 0]) for read in (loaded.get_cam0, loaded.get_cam1)]
listed = [len(loaded.cam0_files), len(loaded.cam1_files)]
counts = (len(loaded), len(loaded.oxts))
too_many = sum(len(np.arange(0, frames * 0.1, 0.1)) > frames for frames in range(1, 1001))
print("wernstrom", version("wernstrom"), "grey of get_cam0, get_cam1:", seen, "files of theirs:", listed, "len, frames:", counts,
      "lengths one too many of 1000:", too_many)
same = seen == [200, 210] and listed == [3, 3] and counts == (4, 3)
sys.exit(0 if same else "changed: grey cameras and stamps are right")
PYTHON
