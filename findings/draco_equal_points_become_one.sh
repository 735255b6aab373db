#!/usr/bin/env bash
# DracoPy 2.2.0, encode of a point cloud (no faces), as it is unless told otherwise:
# 1. Points that are equal become ONE. A scan's missing returns, (0, 0, 0), are such, and so are an organised cloud's rows and
#    columns with them; what is kept beside the points, labels or times, has another length. Its documentation says that the
#    order is not kept, not that the number is not. preserve_order=True keeps all of them.
# 2. With colors= or generic_attributes= they are kept apart again as far as these differ, so that the count depends on it.
# 3. The raster is the longest side divided by 2^14 (its documentation says 11 bits): one stray return at 10 km leaves a
#    raster of 0.6 m to a cloud of 20 m.
# Nothing is said of any of them.
# Seen here, 1000 points with 300 missing returns: 701 points, with a label of each 1000; off by up to 1 mm, beside a point at
# 10 km by up to 0.51 m.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q DracoPy==2.2.0 numpy==2.4.6 scipy==1.17.1
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import DracoPy
import numpy as np
from scipy.spatial import cKDTree

random = np.random.default_rng(0)
scan = random.uniform(-10, 10, (1000, 3)).astype(np.float32)
scan[random.permutation(1000)[:300]] = 0  # missing returns


def decoded(points, **how):
    return np.asarray(DracoPy.decode(DracoPy.encode(points, **how)).points)


plain, ordered = decoded(scan), decoded(scan, preserve_order=True)
labelled = decoded(scan, generic_attributes={"label": np.arange(1000, dtype=np.uint16)[:, None]})
far = decoded(np.concatenate([scan, np.float32([[10_000, 0, 0]])]))
off = cKDTree(far).query(scan)[0].max()
print("DracoPy", version("DracoPy"), "points:", len(plain), "ordered:", len(ordered), "with labels:", len(labelled))
print("with a point at 10 km:", len(far), "points, off by up to", off, "without", cKDTree(plain).query(scan)[0].max())
same = (len(plain), len(ordered), len(labelled)) == (701, 1000, 1000) and np.abs(ordered - scan).max() < 0.01
same = same and off > 0.25 and "quantization_bits=11" in DracoPy.encode.__doc__.replace(" ", "")
sys.exit(0 if same else "changed: each point is kept")
PYTHON
