#!/usr/bin/env bash
# av2 0.3.6, the devkit of Argoverse 2, NDGrid and BEVGrid (av2.structures.ndgrid):
# 1. transform_to_grid_coordinates adds the ABSOLUTE value of the lower bound. That is right for a grid around the vehicle,
#    whose lower bounds are negative; one that begins ahead of it (x from 5 m, say, or heights from 0.3 m) has every point
#    moved by twice the bound, and the far part of it falls out of the grid. Nothing is raised.
# 2. Cell i is not [i, i + 1) times the resolution above the lower bound, but the half before and the half after:
#    the points of the last half cell are outside of the grid's dims, those half a cell below the lower bound inside.
# Seen here, x from 5 to 45 m in cells of 1 m: 5.2 m is in cell 10, 44.2 m in cell 49 of 40; from -20 to 20 m 19.6 m is in
# cell 40 of 40, -20.4 m in cell 0.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps av2==0.3.6  # it asks for PyTorch and more that grids do not need
"$tmp/venv/bin/pip" install -q numpy==2.2.6 scipy==1.15.3 numba==0.61.2 matplotlib==3.10.8 universal-pathlib==0.2.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from av2.structures.ndgrid import BEVGrid


def cells(low, high, x):
    grid = BEVGrid(min_range_m=(low, -20.0), max_range_m=(high, 20.0), resolution_m_per_cell=(1.0, 1.0))
    points = np.array([(one, 0.25) for one in x])
    return grid.transform_to_grid_coordinates(points)[:, 0].tolist(), grid.dims


ahead, around = cells(5.0, 45.0, (5.2, 44.2)), cells(-20.0, 20.0, (-20.4, -19.8, 19.6))
print("av2", version("av2"), "from 5 to 45 m, 5.2 and 44.2:", *ahead, "from -20 to 20 m, -20.4, -19.8, 19.6:", *around)
same = ahead == ([10, 49], (40, 40)) and around == ([0, 0, 40], (40, 40))
sys.exit(0 if same else "changed: grids may begin ahead of the vehicle, or cells begin at the lower bound")
PYTHON
