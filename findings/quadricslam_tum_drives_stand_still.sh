#!/usr/bin/env bash
# quadricslam 1.0.2 (QuadricSLAM), its TumRgbd reader of the TUM RGB-D data set: next() gives the motion since the frame before as
# odometry, and in the world's axes, while QuadricSlam.step takes odometry for poses and uses the difference of two of them. A
# camera of steady speed and heading stands still in the graph. Images and true poses are to be those nearest to the depth's
# stamp, but the stamps are compared with 0: always the one before is taken, an image 2 ms later is passed over for one 98 ms early.
# Seen here, 0.1 m a frame along the camera's z axis: motions in the graph after the first (0, 0, 0); images 98 ms early in 3 of 4.
# Only the optimiser is not run: gtsam and gtsam_quadrics, which has no wheel, are stood in for by objects that take all calls.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps quadricslam==1.0.2
"$tmp/venv/bin/pip" install -q spatialmath-python==1.1.14 numpy==1.26.4 opencv-python-headless==4.11.0.86 distinctipy==1.3.4
export MPLBACKEND=Agg MPLCONFIGDIR="$tmp"
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np

gtsam = MagicMock()
sys.modules |= {"gtsam": gtsam, "gtsam_quadrics": MagicMock(), "pudb": MagicMock()}
from quadricslam import QuadricSlam
from quadricslam.data_source.tum_rgbd import TumRgbd

STAMPS = [1000.0, 1000.1, 1000.2, 1000.3]


def listed(name, lines):
    """A list of the data set."""
    Path(f"{name}.txt").write_text("# a list\n" + "\n".join(lines) + "\n")


Path("rgb").mkdir()
listed("depth", [f"{stamp:.4f} depth/{stamp:.4f}.png" for stamp in STAMPS])
images = [stamp + 0.002 for stamp in (*STAMPS, 1000.4)]
listed("rgb", [f"{stamp:.4f} rgb/{stamp:.4f}.png" for stamp in images])
for stamp in images:
    cv2.imwrite(f"rgb/{stamp:.4f}.png", np.zeros((4, 4, 3), np.uint8))
listed("accelerometer", [f"{stamp:.4f} 0 0 9.8" for stamp in np.arange(999.9, 1000.5, 0.01)])
# The camera's z axis points along the world's x, its x axis along -y, and it moves along its z axis at 1 m/s.
listed("groundtruth", [f"{t:.4f} {t - 1000:.6f} 0 0 -0.5 0.5 -0.5 0.5" for t in np.arange(999.955, 1000.5, 0.01)])

source = TumRgbd(".", np.array([500.0, 500.0, 0.0, 320.0, 240.0]))
early = [round(1000 * (stamp - image[0])) for stamp, image in zip(STAMPS, source.data["rgb"])]
odometry = [np.round(source.next(None)[0].t, 2).tolist() for _ in STAMPS]
source.restart()
associator = MagicMock()
associator.associate.return_value = ([], [], [])
slam = QuadricSlam(source, associator=associator)
gtsam.Pose3.reset_mock()
while not source.done():
    slam.step()
motions = [(np.round(call.args[0][:3, 3], 2) + 0.0).tolist() for call in gtsam.Pose3.call_args_list]
print("quadricslam", version("quadricslam"), "images early by ms:", early, "odometry:", odometry, "motions in the graph:", motions)
same = early == [-2, 98, 98, 98] and odometry == [[0, 0, 0]] + [[0.1, 0, 0]] * 3
sys.exit(0 if same and motions == [[0.1, 0, 0], [0, 0, 0], [0, 0, 0]] else "changed: odometry is poses, stamps are compared")
PYTHON
