#!/usr/bin/env bash
# .spz, the small file of Gaussian splats, has x to the right, y UP and z BACK (its description by Niantic); the .ply files of
# trainings have y down and z ahead, as cameras have. @playcanvas/splat-transform 2.7.1 (npm, with the format's own library)
# turns splats by half a turn about x on the way from one to the other and back. gsply 0.4.6 (PyPI) and spz-js 1.2.5 (npm), a
# "library to convert gaussian splats between PLY and SPZ formats", do not: positions, rotations and colours by direction go
# over as they are, both ways. With each of them there and back is right; a file that one wrote and another read is
# upside down and back to front, and beside the LiDAR's map, the mesh or the camera poses nothing fits.
# Seen here, a splat at (1, 2, 3) m: in the .spz of gsply and spz-js (1, 2, 3), of splat-transform (1, -2, -3), read by
# gsply; from gsply's file splat-transform makes a .ply with (1, -2, -3).
# Needs Node.js with npm. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q gsply==0.4.6 plyfile==1.1.5 numpy==2.4.6
npm install --silent --no-fund --no-audit spz-js@1.2.5 @playcanvas/splat-transform@2.7.1
cat >convert.mjs <<'JS'
import { createReadStream, writeFileSync } from 'fs'
import { Readable } from 'stream'
import { loadPly, serializeSpz } from 'spz-js'
const splats = await loadPly(Readable.toWeb(createReadStream('in.ply')))
writeFileSync('spzjs.spz', Buffer.from(await serializeSpz(splats)))
JS
venv/bin/python - <<'PYTHON'
import subprocess
import sys
from importlib.metadata import version

import gsply
import numpy as np
from gsply import spz
from plyfile import PlyData, PlyElement

NAMES = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
TRANSFORM = "node_modules/.bin/splat-transform"
splats = np.zeros(8, [(name, "<f4") for name in NAMES])
splats["x"], splats["y"], splats["z"], splats["rot_0"] = 1, 2, 3, 1
for axis in range(3):
    splats[f"scale_{axis}"] = -4
PlyData([PlyElement.describe(splats, "vertex")]).write("in.ply")


def transform(source, target, *options):
    subprocess.run([TRANSFORM, "-q", "-w", source, *options, target], check=True, capture_output=True)


def read(path):
    return spz.read_spz(path).means[0].round(3).tolist()


subprocess.run(["node", "convert.mjs"], check=True, capture_output=True)
spz.write_spz("gsply.spz", gsply.plyread("in.ply"))
transform("in.ply", "playcanvas.spz", "--spz-version", "3")
transform("gsply.spz", "from_gsply.ply")
transform("playcanvas.spz", "back.ply")
plain, js, turned = (read(f"{name}.spz") for name in ("gsply", "spzjs", "playcanvas"))
across, back = (
    [round(float(PlyData.read(name)["vertex"][axis][0]), 3) for axis in "xyz"]
    for name in ("from_gsply.ply", "back.ply")
)
print("gsply", version("gsply"), ".spz by gsply:", plain, "by spz-js:", js, "by splat-transform:", turned,
      ".ply of gsply's by splat-transform:", across, "of its own:", back)  # fmt: skip
same = plain == js == back == [1, 2, 3] and turned == across == [1, -2, -3]
sys.exit(0 if same else "changed: they agree on where up is")
PYTHON
