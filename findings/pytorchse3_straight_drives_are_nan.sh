#!/usr/bin/env bash
# pytorchse3 0.0.3, "numerically stable implementations of batched SE(3) exp and log maps" (torch 2.13.0+cpu):
# 1. se3_log_map of a pose that is not turned, or by less than about 0.02 degrees in float32, has NaN for the whole translation:
#    the identity, a robot that stands or drives straight on. In float64 it is so at the identity only. (The other way round,
#    se3_exp_map, has series for it and is right.) One such pose of a batch makes a mean loss NaN.
# 2. so3_log_map of half turns: the signs of the axis are those of numbers that are 0 there, so that all that is left of them is
#    rounding. In float32 a turn by 180 degrees about (1, 2, -3) is one about (1, 2, 3), 147 degrees away.
# Seen here: translation (1, 2, 3), not turned, and turned by 0.017 degrees: NaN; by 0.17 degrees (1.003, 1.998, 3).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q torch==2.13.0+cpu numpy==2.4.6 scipy==1.17.1
"$tmp/venv/bin/pip" install -q --no-deps pytorchse3==0.0.3
"$tmp/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import torch
from pytorchse3.se3 import se3_exp_map, se3_log_map
from pytorchse3.so3 import so3_log_map
from scipy.spatial.transform import Rotation


def translation(angle, kind):
    """That of the logarithm of a pose at (1, 2, 3), turned by an angle about z."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_rotvec([0, 0, angle]).as_matrix(), (1, 2, 3)
    return se3_log_map(torch.tensor(pose, dtype=kind)[None])[0, 3:].numpy().round(3)


single = {angle: translation(angle, torch.float32) for angle in (0.0, 3e-4, 3e-3)}
double = {angle: translation(angle, torch.float64) for angle in (0.0, 3e-4)}
there = se3_exp_map(torch.tensor([[0.0, 0, 0, 1, 2, 3]]))[0, :3, 3].tolist()
axis = np.array([1, 2, -3]) / np.sqrt(14)
half = Rotation.from_rotvec(np.pi * axis)
found = so3_log_map(torch.tensor(half.as_matrix(), dtype=torch.float32)[None])[0].numpy()
apart = np.degrees((Rotation.from_rotvec(found) * half.inv()).magnitude())
print("pytorchse3", version("pytorchse3"), "float32:", single, "float64:", double, "exp:", there, "half turn about", found,
      "degrees away:", apart.round(1))  # fmt: skip
same = all(np.isnan(one).all() for one in (single[0.0], single[3e-4], double[0.0]))
same = same and np.isfinite(single[3e-3]).all() and np.isfinite(double[3e-4]).all() and there == [1, 2, 3] and apart > 100
sys.exit(0 if same else "changed: poses that are not turned have a logarithm")
PYTHON
