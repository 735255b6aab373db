#!/usr/bin/env bash
# dual_quaternions 0.4.0 (pyquaternion 0.9.9), rigid motions as one algebra:
# 1. log() forgets a translation along the axis of the rotation, and all of it where there is no rotation: log of 1 m forwards is
#    zero, and exp(log(motion)) is another motion. Distances, means and interpolations by log and exp are wrong; pow and sclerp,
#    which do not use it, are right.
# 2. a motion and the one with the opposite translation are EQUAL: == takes either sign for the two halves separately, where
#    only both together are the same motion.
# Seen here: 1 m and -1 m along x are ==; exp(log()) of (1, 2, 3) m with 0.5 rad about z is (-0.42, 0.36, 0) m with 0.5 rad, of
# 1 m without rotation it is nothing.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps dual_quaternions==0.4.0 pyquaternion==0.9.9 numpy==2.2.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from dual_quaternions import DualQuaternion

forwards, backwards = (DualQuaternion.from_translation_vector([x, 0, 0]) for x in (1.0, -1.0))
turning = DualQuaternion.from_quat_pose_array([np.cos(0.25), 0, 0, np.sin(0.25), 1, 2, 3])
back, none = np.float64(turning.log().exp().quat_pose_array()), np.float64(forwards.log().exp().quat_pose_array())
halves = turning.pow(0.5) * turning.pow(0.5)
print("dual_quaternions", version("dual_quaternions"), "1 m == -1 m:", forwards == backwards, "exp(log()):", back.round(3).tolist(),
      none.tolist(), "halves:", np.round(np.float64(halves.quat_pose_array()), 3).tolist())  # fmt: skip
same = forwards == backwards and np.allclose(none, (1, 0, 0, 0, 0, 0, 0))
same = (
    same
    and np.allclose(back[:4], turning.quat_pose_array()[:4])
    and np.allclose(back[4:], (-0.418, 0.362, 0), atol=1e-3)
)
same = same and np.allclose(np.float64(halves.quat_pose_array()), np.float64(turning.quat_pose_array()))
sys.exit(0 if same else "changed: log and exp undo each other, or a motion is not equal to its opposite")
PYTHON
