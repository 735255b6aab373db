#!/usr/bin/env bash
# coopscenes 0.9.4 and aeif-dataset 1.2.3 (opencv-python-headless 5.0.0.93), the devkits of two data sets of cooperative driving:
# 1. get_disparity_map hands on what OpenCV's StereoSGBM gives, and that is in SIXTEENTHS of a pixel. get_depth_map divides by it,
#    so that everything is sixteen times too near: the car at 48 m is at 3 m. A picture of it looks right, since it is scaled. What
#    was not matched, -16 there, is infinitely far, as documented.
# 2. remove_hidden_points (coopscenes only), which points of a LiDAR a camera sees: the two mounting poses are multiplied where one
#    has to be inverted, so that it looks from a place where no camera is, unless the LiDAR is at the origin of the
#    vehicle. What a camera does not see is kept, and painted, and what it sees goes.
# Seen here: a scene 32 pixels apart: 512, with a focal length of 400 and a baseline of 0.24 m 0.1875 m (3 m); a LiDAR at (2, 1, 0),
# turned to the left, and a camera at (3, 0, 0): looked from (5, 1, 0), where it is at (-1, -1, 0) for the LiDAR.
# Open3D is stood in for, it is only asked where it looks from. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q opencv-python-headless==5.0.0.93 numpy==2.2.6 scipy==1.15.3 pillow==12.0.0 dill==0.4.0 \
    matplotlib==3.10.7 zstandard==0.25.0 pytz==2025.2 kiss-icp==1.2.0
"$tmp/venv/bin/pip" install -q --no-deps coopscenes==0.9.4 aeif-dataset==1.2.3
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image as Picture

Path("open3d.py").write_text(
    "class Cloud:\n"
    "    def hidden_point_removal(self, camera, radius):\n"
    "        looked.append(camera.ravel().tolist())\n"
    "        return None, [0]\n"
    "class geometry:\n"
    "    PointCloud = Cloud\n"
    "class utility:\n"
    "    Vector3dVector = staticmethod(lambda points: points)\n"
    "looked = []\n"
)
sys.path.insert(0, ".")
import aeifdataset
import coopscenes
import open3d

SHIFT, FOCAL, BASELINE = 32, 400.0, 0.24
scene = np.random.default_rng(0).integers(0, 255, (120, 400), np.uint8).repeat(2, 0).repeat(2, 1)
matrix = np.array([[FOCAL, 0, 320], [0, FOCAL, 120], [0, 0, 1]])
stereo = np.eye(4)
stereo[0, 3] = BASELINE


def depths(kit):
    """The median disparity and depth of the scene's middle."""
    projection = np.hstack([matrix, np.zeros((3, 1))])
    pair = []
    for name, begin in (("STEREO_LEFT", 64), ("STEREO_RIGHT", 64 + SHIFT)):
        info = kit.CameraInformation(name, shape=(640, 240), camera_mtx=matrix, distortion_mtx=np.zeros(5))
        info.rectification_mtx, info.projection_mtx, info.stereo_transform = np.eye(3), projection, stereo
        picture = Picture.fromarray(np.ascontiguousarray(scene[:, begin : begin + 640])).convert("RGB")
        pair.append(kit.Camera(info, kit.Image(picture)))
    middle = slice(60, 180), slice(250, 500)
    return [float(np.median(of(*pair)[middle])) for of in (kit.get_disparity_map, kit.get_depth_map)]


lidar_pose, camera_pose = np.eye(4), np.eye(4)
lidar_pose[:3, :3], lidar_pose[:3, 3], camera_pose[:3, 3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]], (2, 1, 0), (3, 0, 0)
points = np.zeros(4, [("x", "f4"), ("y", "f4"), ("z", "f4")])
lidar = coopscenes.Lidar(coopscenes.LidarInformation("LEFT"), coopscenes.Points(points))
camera = coopscenes.Camera(coopscenes.CameraInformation("STEREO_LEFT"))
lidar.info.extrinsic, camera.info.extrinsic = lidar_pose, camera_pose
coopscenes.remove_hidden_points(lidar, camera)
looked, true = (
    np.round(open3d.looked[0], 6).tolist(),
    (np.linalg.inv(lidar_pose) @ camera_pose)[:3, 3].round(6).tolist(),
)
found = {name: depths(kit) for name, kit in (("coopscenes", coopscenes), ("aeif-dataset", aeifdataset))}
print({name: version(name) for name in found}, "disparity and depth:", found, "looked from", looked, "camera at", true)
same = all(
    abs(one[0] - 16 * SHIFT) < 1 and abs(one[1] - FOCAL * BASELINE / SHIFT / 16) < 0.001 for one in found.values()
)
sys.exit(
    0 if same and looked == [5, 1, 0] and true == [-1, -1, 0] else "changed: depths are metres, or hidden is hidden"
)
PYTHON
