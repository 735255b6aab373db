#!/usr/bin/env bash
# cartoblobpy 0.0.10 plans paths on occupancy grids of ROS (map.yaml and an image; its own map generator writes such files):
# 1. inflate_obstacles(radius in metres, "to account for agent size") makes the cells exp(-distance / radius), and what is above
#    0.6 is an obstacle: obstacles grow by HALF the radius (0.51 of it). A robot of 0.5 m radius is led along walls at 0.26 m.
# 2. negate, occupied_thresh and free_thresh of the map.yaml are not read: in a negated map free and occupied are exchanged.
# 3. An image with an alpha channel is read by that alone: a white, opaque .png is occupied everywhere.
# 4. is_free and distance_to_closest_obstacle of points up to a cell outside of the map, to the left and below, are answered as
#    if they were in its first cell.
# Seen here, cells of 5 cm, a single occupied one, radius 0.5 m: blocked to 0.25 m, free at 0.3 m; the same map negated: free
# ground is occupied; with alpha 255: all is; 4 cm outside is free.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 scipy==1.15.3 pillow==11.3.0 matplotlib==3.10.7 networkx==3.4.2 pyyaml==6.0.3
"$tmp/venv/bin/pip" install -q --no-deps cartoblobpy==0.0.10
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import yaml
from cartoblobpy.graph import Graph
from PIL import Image

CELL, SIZE, MIDDLE = 0.05, 101, 50


def graph(image, **more):
    Image.fromarray(image).save("map.png")
    one = {"image": "map.png", "resolution": CELL, "origin": [-1.0, -1.0, 0.0], "negate": 0, "occupied_thresh": 0.65, "free_thresh": 0.25}
    Path("map.yaml").write_text(yaml.safe_dump(one | more))
    found = Graph()
    found.load_from_yaml("map.yaml")
    return found


def at(metres):
    """A place that far to the right of the occupied cell's middle."""
    return np.array([(MIDDLE + 0.5) * CELL - 1 + metres, (MIDDLE + 0.5) * CELL - 1])


image = np.full((SIZE, SIZE), 254, np.uint8)
image[MIDDLE, MIDDLE] = 0
plain, negated = graph(image), graph(255 - image, negate=1)
opaque = graph(np.dstack([image] * 3 + [np.full_like(image, 255)]))
before = plain.is_free(at(1)), plain.is_free(at(0)), negated.is_free(at(1)), negated.is_free(at(0)), opaque.is_free(at(1))
outside = plain.is_free(np.array([-1.04, 0])), plain.is_free(np.array([-1.06, 0]))
plain.inflate_obstacles(0.5)
blocked = CELL * (np.flatnonzero(plain.free_space_mask()[MIDDLE] == 0).max() - MIDDLE)
print("cartoblobpy", version("cartoblobpy"), "free ground, obstacle, both negated, free ground with alpha:", before, "outside:", outside,
      "blocked to", blocked.round(2), "free at 0.3 m:", plain.is_free(at(0.3)))  # fmt: skip
same = before == (True, False, False, True, False) and outside == (True, False)
sys.exit(0 if same and round(blocked, 2) == 0.25 and plain.is_free(at(0.3)) else "changed: obstacles grow by the radius")
PYTHON
