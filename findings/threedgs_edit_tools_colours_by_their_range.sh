#!/usr/bin/env bash
# 3dgs-edit-tools 0.3.0 converts, edits and merges Gaussian splats (.ply, whose colour is 0.5 + 0.282 f_dc):
# 1. To a point cloud: the least f_dc of the whole file becomes black and the greatest white. The same splats have other
#    colours in each file: one black floater brightens all, and a cloud of one half in shade loses it. A grey splat is black
#    in one file and white in another, here.
# 2. To CSV, for editing, colours are stretched so, and on the way back by the range that was seen LAST. merge_gs, by which
#    two files become one, reads both and then writes both by the second one's range: colours of the first are wrong.
# 3. merge_gs --translate-x (y, z): nothing is moved. The scale, 1 unless it is given, is applied to the places as they were
#    BEFORE the translation, so that this is lost, though it is reported. --scale-x moves the splats apart and leaves their
#    size.
# Seen here, two splats each, f_dc 0 and 0.5 in a file, 0 and -5 in another: f_dc 0, grey (128 of 255), is 0 in the first
# cloud and 255 in the second. Merged with --translate-x 10: f_dc -5, 0, 0, -5 and x 0, 1, 0, 1.
# Open3D and matplotlib are not needed for this: they are stood in for. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 3dgs-edit-tools==0.3.0 numpy==2.2.6 pandas==2.2.3 plyfile==1.1.2
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import contextlib
import io
import sys
from importlib.metadata import version
from unittest.mock import MagicMock

for name in ("matplotlib.cm", "matplotlib.colors", "matplotlib.pyplot", "mpl_toolkits.mplot3d", "open3d"):
    sys.modules[name] = MagicMock()
    sys.modules[name.split(".")[0]] = MagicMock()

import numpy as np
from plyfile import PlyData, PlyElement
from src.gs_to_pointcloud import convert_3dgs_to_pointcloud  # the package's name is src
from src.merge_gs import main as merge

NAMES = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()


def write(path, f_dc):
    splats = np.zeros(2, [(name, "f4") for name in NAMES])
    splats["x"], splats["rot_0"] = [0, 1], 1
    for channel in range(3):
        splats[f"f_dc_{channel}"], splats[f"scale_{channel}"] = f_dc, -3
    PlyData([PlyElement.describe(splats, "vertex")]).write(path)


def read(path, name):
    return np.round(PlyData.read(path)["vertex"][name].astype(float), 3).tolist()


write("bright.ply", [0, 0.5])
write("dark.ply", [0, -5])
with contextlib.redirect_stdout(io.StringIO()):
    clouds = [read(convert_3dgs_to_pointcloud(f"{name}.ply"), "red") for name in ("bright", "dark")]
    sys.argv = ["merge_gs", "bright.ply", "dark.ply", "-o", "moved.ply", "--translate-x", "10"]
    merge()
    sys.argv = ["merge_gs", "bright.ply", "dark.ply", "-o", "scaled.ply", "--scale-x", "2"]
    merge()
colours, places = read("moved.ply", "f_dc_0"), read("moved.ply", "x")
scaled, sizes = read("scaled.ply", "x"), read("scaled.ply", "scale_0")
print("3dgs-edit-tools", version("3dgs-edit-tools"), "clouds:", clouds, "merged, f_dc:", colours, "x:", places, "scaled x:",
      scaled, "sizes:", sizes)  # fmt: skip
same = clouds == [[0, 255], [255, 0]] and colours == [-5, 0, 0, -5] and places == [0, 1, 0, 1]
same = same and scaled == [0, 1, 0, 2] and sizes == [-3] * 4
sys.exit(0 if same else "changed: colours stay, or splats move")
PYTHON
