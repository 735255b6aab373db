#!/usr/bin/env bash
# lyft_dataset_sdk 0.0.8, the devkit of Lyft's Level 5 data set, mAP_evaluation, by which 3D detections are scored (files of
# nuScenes' form, too): the base of each box is turned the WRONG way round: the sine is taken from row 0, column 1 of the
# rotation matrix, where it is negative. Each box is mirrored about its own middle; the middles are where they are. So a box
# that equals the true one has an IoU of 1, and so have boxes along the axes x and y what they should; a box at an angle that
# is off by a metre ALONG its heading is scored as one that is off ACROSS it, and the other way round: what is right fails,
# what is wrong passes, by the heading of the road. The average over a city hides it. Box, in the same devkit, for pictures,
# is right.
# Seen here, cars of 4 x 2 m at 45 degrees, 1 m off along the heading: IoU 0.333, with shapely's own turning 0.6; 1 m off
# across it: 0.6 and 0.333; at 0 degrees both agree. Average precision at 0.5 of the first: 0, of the second: 1.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 pyquaternion==0.9.9 shapely==2.0.6
"$tmp/venv/bin/pip" install -q --no-deps lyft_dataset_sdk==0.0.8
"$tmp/venv/bin/python" - <<'PYTHON'
import math
import sys
from importlib.metadata import version

from lyft_dataset_sdk.eval.detection.mAP_evaluation import Box3D, get_average_precisions
from shapely import affinity
from shapely.geometry import box as rectangle

WIDTH, LENGTH, HEIGHT = 2.0, 4.0, 1.5


def car(heading, along=0.0, across=0.0):
    """A car at the origin, moved by so much in metres."""
    cos, sin = math.cos(heading), math.sin(heading)
    return {
        "sample_token": "0",
        "translation": [along * cos - across * sin, along * sin + across * cos, 0],
        "size": [WIDTH, LENGTH, HEIGHT],
        "rotation": [math.cos(heading / 2), 0, 0, math.sin(heading / 2)],
        "name": "car",
        "score": 1.0,
    }


def base(described, heading):
    shape = affinity.rotate(rectangle(-LENGTH / 2, -WIDTH / 2, LENGTH / 2, WIDTH / 2), heading, (0, 0), use_radians=True)
    return affinity.translate(shape, *described["translation"][:2])


def scores(degrees, **offset):
    """IoU by the devkit, by shapely alone, and average precision at 0.5."""
    heading = math.radians(degrees)
    truth, found = car(heading), car(heading, **offset)
    iou = float(Box3D(**truth).get_iou(Box3D(**found)))
    one, other = base(truth, heading), base(found, heading)
    precision = float(get_average_precisions([truth], [found], ["car"], 0.5)[0])
    return round(iou, 3), round(one.intersection(other).area / one.union(other).area, 3), precision


straight, along, across = scores(0, along=1.0), scores(45, along=1.0), scores(45, across=1.0)
print("lyft_dataset_sdk", version("lyft_dataset_sdk"), "IoU, IoU by shapely, AP: at 0 degrees", straight, "at 45, along",
      along, "at 45, across", across)  # fmt: skip
same = straight == (0.6, 0.6, 1) and along == (0.333, 0.6, 0) and across == (0.6, 0.333, 1)
sys.exit(0 if same else "changed: boxes are turned as their quaternions say")
PYTHON
