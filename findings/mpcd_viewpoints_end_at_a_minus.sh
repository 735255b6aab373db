#!/usr/bin/env bash
# mpcd 0.1.1 and wind-pypcd 0.1.9 read PCD files by an expression of the old pypcd, in which a value of the header consists of
# letters, digits, spaces and dots. A minus ends it. VIEWPOINT is the only line with signs: the sensor's pose, by which clouds
# are put together and normals turned. It is cut at the first negative number, to a pose of one number or of six; where the
# first one is negative it is the default, the origin, with a warning "can't understand line". Saved again, the file has a
# viewpoint that others refuse, or another pose. pypcd4 1.5.1 reads all.
# Seen here: "10 20 1.5 0.7071 0 0 -0.7071" is 10 20 1.5 0.7071 0 0; "10 -20 1.5 1 0 0 0" is 10; "-10 20 1.5 1 0 0 0" is
# 0 0 0 1 0 0 0.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 python-lzf==0.2.6 opencv-python-headless==4.12.0.88 pillow==12.0.0 tqdm==4.67.1 \
    pypcd4==1.5.1
"$tmp/venv/bin/pip" install -q --no-deps mpcd==0.1.1 wind-pypcd==0.1.9
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import mpcd
import pypcd4
from pypcd import pypcd

HEADER = """VERSION 0.7
FIELDS x y z
SIZE 4 4 4
TYPE F F F
COUNT 1 1 1
WIDTH 2
HEIGHT 1
VIEWPOINT {}
POINTS 2
DATA ascii
1 2 3
4 5 6
"""
POSES = {
    (10, 20, 1.5, 0.7071, 0, 0, -0.7071): [10, 20, 1.5, 0.7071, 0, 0],
    (10, -20, 1.5, 1, 0, 0, 0): [10],
    (-10, 20, 1.5, 1, 0, 0, 0): [0, 0, 0, 1, 0, 0, 0],
    (10, 20, 1.5, 1, 0, 0, 0): [10, 20, 1.5, 1, 0, 0, 0],
}
same = True
for pose, cut in POSES.items():
    Path("cloud.pcd").write_text(HEADER.format(" ".join(map(str, pose))))
    readers = {"mpcd": mpcd.mpcd._pc_from_path, "wind-pypcd": pypcd.PointCloud.from_path}
    read = {name: list(reader("cloud.pcd").viewpoint) for name, reader in readers.items()}
    print({name: version(name) for name in readers}, pose, "is read", *read.values())
    whole = list(pypcd4.PointCloud.from_path("cloud.pcd").metadata.viewpoint)
    same = same and whole == list(pose) and all(one == cut for one in read.values())
sys.exit(0 if same else "changed: viewpoints with a minus are read")
PYTHON
