#!/usr/bin/env bash
# open3d-cpu 0.20.0 reads a valid PCD file of double precision, here one that pypcd4 1.5.1 wrote (it keeps numpy's float64
# as SIZE 8 TYPE F), as points that are all at the origin: open3d.io.read_point_cloud gives the
# right number of points and no warning. Only binary and compressed files and only this reader: open3d.t.io.read_point_cloud
# has the same file right, and so do both with text.
# Seen here: (1.5, 2, 3) and (4, 5, 6) read as (0, 0, 0) twice from DATA binary and binary_compressed.
# Needs the system's libGL; libusb-1.0, which Open3D's wheel lacks too, comes from libusb-package.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q open3d-cpu==0.20.0 libusb-package==1.0.30.0 pypcd4==1.5.1 numpy==2.4.6
ln -s "$tmp"/venv/lib/python3*/site-packages/libusb_package/libusb-1.0.so "$tmp/libusb-1.0.so.0"
export LD_LIBRARY_PATH="$tmp${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
"$tmp/venv/bin/python" - "$tmp/points.pcd" <<'PYTHON'
import sys

import numpy as np
import open3d as o3d
from pypcd4 import Encoding, PointCloud

path, points = sys.argv[1], np.array([[1.5, 2, 3], [4, 5, 6]])
same = True
for kind, encoding in ((np.float32, Encoding.BINARY), (np.float64, Encoding.BINARY), (np.float64, Encoding.BINARY_COMPRESSED),
                       (np.float64, Encoding.ASCII)):  # fmt: skip
    PointCloud.from_points(list(points.T.astype(kind)), ("x", "y", "z"), (kind,) * 3).save(path, encoding=encoding)
    old = np.asarray(o3d.io.read_point_cloud(path).points)
    new = o3d.t.io.read_point_cloud(path).point.positions.numpy()
    print(o3d.__version__, kind.__name__, encoding.value, "io:", old.tolist(), "t.io:", new.tolist())
    lost = kind is np.float64 and encoding is not Encoding.ASCII
    same = same and np.array_equal(old, 0 * points if lost else points) and np.array_equal(new, points)
sys.exit(0 if same else "changed: doubles are read")
PYTHON
