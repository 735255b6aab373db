#!/usr/bin/env bash
# open3d-cpu 0.20.0 writes PLY as text with six significant digits, whatever the type: write_point_cloud(..., write_ascii=True)
# declares "property double x" and puts 5.30012e+06 there. Both writers do, open3d.io and open3d.t.io, without a word.
# Text is what one picks to look into a file or to hand it on. A site in UTM coordinates is rounded to 10 m northwards and
# 1 m eastwards, a local map to 1 cm from 1 km on, and a point's time since the epoch to 10000 s. Its .xyz has ten
# decimals, its text .pcd ten digits (epoch times in whole seconds), and binary files are exact.
# Seen here: (500123.4567, 5300123.4567, 12.3456) becomes "500123 5.30012e+06 12.3456", the time 1700000000.25 "1.7e+09",
# and 1700000000 in .pcd.
# Needs the system's libGL; libusb-1.0, which Open3D's wheel lacks too, comes from libusb-package.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q open3d-cpu==0.20.0 libusb-package==1.0.30.0 numpy==2.4.6
ln -s "$tmp"/venv/lib/python3*/site-packages/libusb_package/libusb-1.0.so "$tmp/libusb-1.0.so.0"
export LD_LIBRARY_PATH="$tmp${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import open3d as o3d

folder, utm = Path(sys.argv[1]), np.array([[500123.4567, 5300123.4567, 12.3456]])
cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(utm))
o3d.io.write_point_cloud(str(folder / "io.ply"), cloud, write_ascii=True)
o3d.io.write_point_cloud(str(folder / "binary.ply"), cloud)
timed = o3d.t.geometry.PointCloud(o3d.core.Tensor(utm))
timed.point["timestamp"] = o3d.core.Tensor([[1700000000.25]], o3d.core.float64)
for name in ("t_io.ply", "t_io.pcd"):
    o3d.t.io.write_point_cloud(str(folder / name), timed, write_ascii=True)
lines = {name: (folder / name).read_text().split("\n")[-2].strip() for name in ("io.ply", "t_io.ply", "t_io.pcd")}
exact = np.asarray(o3d.io.read_point_cloud(str(folder / "binary.ply")).points)
print(o3d.__version__, utm[0].tolist(), "1700000000.25 as text:", lines, "binary:", exact[0].tolist())
wanted = {"io.ply": "500123 5.30012e+06 12.3456", "t_io.ply": "500123 5.30012e+06 12.3456 1.7e+09",
          "t_io.pcd": "500123.4567 5300123.457 12.3456 1700000000"}  # fmt: skip
sys.exit(0 if lines == wanted and np.array_equal(exact, utm) else "changed: text has other digits")
PYTHON
