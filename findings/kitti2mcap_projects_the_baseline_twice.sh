#!/usr/bin/env bash
# kitti2mcap 0.1.1 (pykitti 0.3.1) makes MCAP files for ROS 2 of KITTI's raw drives. Each camera has a frame of its own in
# /tf_static, and P of its camera_info, by which image_geometry and RViz project, keeps KITTI's fourth column, which leads
# from CAMERA 0 to that camera. So the baseline is applied twice, by TF and by P: LiDAR points land beside their pixels, half
# a metre to the left in camera 3 at every depth. K is right, with its d of zeros.
# R is KITTI's rectification, no identity, though the images are rectified already and their topic is image_raw: who
# rectifies raw images by the book turns them once more. And /kitti/imu is in the frame "imu", which no transform names.
# The 3D view shows nothing of it.
# Seen here, KITTI's P of 2011_09_26, a point 10 m ahead of the LiDAR: by P 4.5 pixels to the right in camera 2 and 33.9 to the
# left in camera 3 of where KITTI's own formula has it, by K right there.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q kitti2mcap==0.1.1 pykitti==0.3.1 mcap-ros2-support==0.6.0 pillow==12.2.0 numpy==2.4.6
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from kitti2mcap.cli import main
from mcap_ros2.reader import read_ros2_messages
from PIL import Image

day = Path("2011_09_26")
drive = day / "2011_09_26_drive_0001_sync"
FOCAL, U, V = 721.5377, 609.5593, 172.854
COLUMN = {0: 0.0, 1: -387.5744, 2: 44.85728, 3: -339.5242}  # pixels times metres


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def entry(name, values):
    return f"{name}: " + " ".join(f"{value:.9e}" for value in np.ravel(values))


def turn(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([(c, 0, s), (0, 1, 0), (-s, 0, c)])


projection = {cam: np.array([(FOCAL, 0, U, column), (0, FOCAL, V, 0), (0, 0, 1, 0)]) for cam, column in COLUMN.items()}
rectify = {cam: turn(0.01 * (cam + 1)) for cam in COLUMN}
lines = [entry(f"P_rect_0{cam}", projection[cam]) for cam in COLUMN] + [entry(f"R_rect_0{cam}", rectify[cam]) for cam in COLUMN]
text(day / "calib_cam_to_cam.txt", *lines)
axes = np.array([(0.0, -1, 0), (0, 0, -1), (1, 0, 0)])  # x forwards to z forwards
for name, rotation in (("velo_to_cam", axes), ("imu_to_velo", np.eye(3))):
    text(day / f"calib_{name}.txt", entry("R", rotation), entry("T", np.zeros(3)))
for folder in ("image_00", "image_01", "image_02", "image_03", "velodyne_points", "oxts"):
    text(drive / folder / "timestamps.txt", "2011-09-26 13:02:25.961661696")
    (drive / folder / "data").mkdir()
for cam in COLUMN:
    Image.new("RGB" if cam > 1 else "L", (1242, 375)).save(drive / f"image_0{cam}" / "data" / "0000000000.png")
point = np.float32([[10, 1, 0.5, 0.3]])
point.tofile(drive / "velodyne_points" / "data" / "0000000000.bin")
text(drive / "oxts" / "data" / "0000000000.txt", " ".join(["49.0", "8.4", "110", *["0"] * 22, "4", "9", "4", "4", "0"]))
main(["--date", day.name, "--drive", "0001", "--kitti-dir", ".", "--output", "drive.mcap", "--cameras", "0,1,2,3"])

place, cameras, imu, frames = {}, {}, "", set()
for one in read_ros2_messages("drive.mcap"):
    message = one.ros_msg
    for stamped in getattr(message, "transforms", []):
        t, q = stamped.transform.translation, stamped.transform.rotation
        x, y, z, w = q.x, q.y, q.z, q.w
        matrix = np.eye(4)
        matrix[:3] = [
            (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), t.x),
            (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w), t.y),
            (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y), t.z),
        ]
        place[stamped.child_frame_id] = matrix
        frames |= {stamped.child_frame_id, stamped.header.frame_id}
    if one.channel.topic.endswith("camera_info"):
        cameras[one.channel.topic] = message
    elif one.channel.topic == "/kitti/imu":
        imu = message.header.frame_id


def pixel(matrix, inside):
    u, _, depth = matrix @ inside
    return u / depth


homogeneous = np.append(point[0, :3], 1)
base = place["velodyne"] @ homogeneous
off = {}
for cam, topic in ((2, "/kitti/camera_color_left/camera_info"), (3, "/kitti/camera_color_right/camera_info")):
    info = cameras[topic]
    inside = np.linalg.inv(place[info.header.frame_id]) @ base
    true = pixel(projection[cam], np.append(rectify[0] @ axes @ point[0, :3], 1))  # KITTI: P R_rect_00 Tr
    by_p, by_k = pixel(np.reshape(info.p, (3, 4)), inside), pixel(np.reshape(info.k, (3, 3)), inside[:3])
    off[cam] = round((by_p - true).item(), 1), round((by_k - true).item(), 1)
    turned = not np.allclose(np.reshape(info.r, (3, 3)), np.eye(3))
print("kitti2mcap", version("kitti2mcap"), "pixels off by P, by K:", off, "R turns:", turned, imu, sorted(frames))
same = off[2][0] > 4 and off[3][0] < -30 and max(abs(off[2][1]), abs(off[3][1])) < 0.3 and turned and imu not in frames
sys.exit(0 if same else "changed: P goes with the frame of its camera_info")
PYTHON
