#!/usr/bin/env bash
# calibpy 1.0.0 saves a calibrated Camera as .npy (a pickle), .yaml or .json: camera.serialize("cam.json"), and camera.load
# reads it back, by its text. A .json file is written whole and read as nothing: load begins with an empty dictionary and goes
# through that one. Nothing is raised, all values are what they were before, which is None, or, after quick_init(), Blender's
# default camera of 50 mm, with which everything runs on. (.yaml holds the image's size in a way that it cannot load, and raises;
# .npy is right.)
# Seen here, fx 1000, cx 640, k1 -0.3: after load intrinsics and distortion None; after quick_init and load fx 2666.7, cx 960 and
# no distortion; by .npy 1000, 640, -0.3.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 pyyaml==6.0.3
"$tmp/venv/bin/pip" install -q --no-deps calibpy==1.0.0
cd "$tmp"
venv/bin/python - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

from calibpy.Camera import Camera

camera = Camera("front")
camera.set_intrinsics(1000.0, 1001.0, 640.0, 360.0)
camera.set_distortion(-0.3, 0.1, 0.0, 0.0, 0.0)
camera.image_size = (720, 1280)
for name in ("cam.json", "cam.npy"):
    camera.serialize(name)
written = json.loads(Path("cam.json").read_text())["intrinsics"]["value"]
empty, default, pickled = Camera(), Camera(), Camera()
default.quick_init()
empty.load("cam.json")
default.load("cam.json")
pickled.load("cam.npy")
print("calibpy", version("calibpy"), "written:", written, "read:", empty.intrinsics, empty.name, "over the default camera:",
      default.intrinsics.tolist(), default.distortion.tolist(), "by .npy:", pickled.intrinsics.tolist())  # fmt: skip
same = written[0][0] == 1000 and empty.intrinsics is None and empty.distortion is None and empty.name is None
same = same and round(default.fx, 1) == 2666.7 and not default.distortion.any() and default.name == "Default Cam"
sys.exit(0 if same and pickled.fx == 1000 and pickled.name == "front" else "changed: .json files are read")
PYTHON
