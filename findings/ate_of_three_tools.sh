#!/usr/bin/env bash
# The absolute trajectory error (ATE) of one odometry against one ground truth, by three tools that each call it so and are
# each called as their examples do: evo 1.38.1 (APE), evalio 0.6.1 and trajectopy 5.1.2 differ by a factor of seven, all of
# them in metres and with the same associations. evo aligns nothing unless told to (evo_ape -a, Umeyama), evalio lays the
# first poses upon each other, so that an error of the first heading grows with the way, trajectopy aligns as -a does.
# And where evo and the literature (Sturm et al. 2012) have the root of the mean square, trajectopy's pos_ate is the MEAN of
# the distances, a seventh less here; its pos_dev_rms is what the others mean.
# Seen here, 120 m of gentle bends with a heading that drifts by 0.02 degrees/s: evo 1.126 m, with -a 0.192 m; evalio
# 1.126 m (sse); trajectopy 0.168 m, pos_dev_rms 0.192 m.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1 pandas==3.0.0 rosbags==0.11.9 autograd==1.8.0 pyproj==3.7.2 \
    natsort==8.4.0 PyYAML==6.0.3 asteval==1.0.8 tqdm==4.67.1 typing_extensions==4.15.0 rich==14.2.0
"$tmp/venv/bin/pip" install -q --no-deps evo==1.38.1 evalio==0.6.1 trajectopy==5.1.2
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import trajectopy
from evalio import stats
from evalio.types import SE3, SO3, Stamp, Trajectory
from evo.core.metrics import APE, PoseRelation, StatisticsType
from evo.core.trajectory import PoseTrajectory3D
from scipy.spatial.transform import Rotation

t = np.arange(0, 120, 0.1)
truth = np.c_[t, 5 * np.sin(t / 10), 0 * t]
heading = Rotation.from_euler("z", np.arctan2(0.5 * np.cos(t / 10), 1)[:, None])
drift = Rotation.from_euler("z", np.radians(0.02) * t[:, None])
estimate = np.cumsum(np.r_[truth[:1], drift[:-1].apply(np.diff(truth, axis=0))], axis=0)
both = ((truth, heading), (estimate, drift * heading))


def of_evo(align):
    gt, est = (
        PoseTrajectory3D(positions_xyz=xyz.copy(), orientations_quat_wxyz=q.as_quat(scalar_first=True), timestamps=t)
        for xyz, q in both
    )
    if align:
        est.align(gt)
    error = APE(PoseRelation.translation_part)
    error.process_data((gt, est))
    return error.get_statistic(StatisticsType.rmse)


def of_evalio():
    stamps = [Stamp.from_nsec(round(seconds * 1e9)) for seconds in t + 1000]
    gt, est = (
        Trajectory(stamps=list(stamps), metadata=None, poses=[
            SE3(SO3(qx=q[0], qy=q[1], qz=q[2], qw=q[3]), place) for place, q in zip(xyz, turn.as_quat())
        ])
        for xyz, turn in both
    )  # fmt: skip
    return stats.ate(est, gt).sse().trans


gt, est = (trajectopy.Trajectory.from_arrays(xyz=xyz, quat=q.as_quat(), timestamps=t) for xyz, q in both)
result = trajectopy.ate(est, gt)
seen = [of_evo(False), of_evo(True), of_evalio(), float(result.pos_ate), float(result.pos_dev_rms)]
print(*(f"{name} {version(name)}" for name in ("evo", "evalio", "trajectopy")))
print("ATE in metres: evo, evo -a, evalio, trajectopy's pos_ate and pos_dev_rms:", np.round(seen, 4))
sys.exit(0 if np.allclose(seen, [1.1257, 0.1918, 1.1257, 0.1677, 0.1918], atol=1e-3) else "changed: another ATE")
PYTHON
