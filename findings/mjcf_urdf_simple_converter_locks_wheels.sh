#!/usr/bin/env bash
# mjcf-urdf-simple-converter 0.7.3 with mujoco 3.3.7, the way from a MuJoCo model of a robot to its URDF: a hinge without a range,
# as a wheel's or a spinning LiDAR's is, becomes a revolute joint with lower and upper limit 0 (not a continuous one), and nothing
# drives. A slide becomes a fixed joint (it prints so). Where a body has three hinges off its origin, as a gimbal has, the third is
# put where the anchors of the joints before are added up: the camera on it stands aside by the anchor, with all angles zero too.
# Seen here: a wheel with limits 0.0 and 0.0; a camera 1 m above the base on a gimbal anchored 0.1 m higher, by the URDF at 0.9 m.
# With two hinges it is at 1 m.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q mjcf-urdf-simple-converter==0.7.3 mujoco==3.3.7 numpy==2.2.6 scipy==1.15.3
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from xml.etree import ElementTree

import mujoco
from mjcf_urdf_simple_converter import convert


def model(axes):
    """A base with a wheel, and a camera 1 m above it that turns by the axes about a point 0.1 m above its origin."""
    joints = "".join(f'<joint name="j{index}" axis="{axis}" pos="0 0 0.1" range="-90 90"/>' for index, axis in enumerate(axes))
    return f"""<mujoco><worldbody><body name="base"><inertial pos="0 0 0" mass="9" diaginertia="1 1 1"/>
        <body name="wheel" pos="0 0.3 0"><joint name="axle" axis="0 1 0"/><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/></body>
        <body name="camera" pos="0 0 1">{joints}<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/></body>
        </body></worldbody></mujoco>"""


def converted(axes):
    """The axle's kind and limits, and the height of the camera with all angles zero: by the URDF, and by MuJoCo."""
    with open("robot.xml", "w", encoding="utf-8") as file:
        file.write(model(axes))
    loaded = mujoco.MjModel.from_xml_path("robot.xml")
    data = mujoco.MjData(loaded)
    mujoco.mj_forward(loaded, data)
    convert("robot.xml", "robot.urdf")
    joints = {joint.find("child").get("link"): joint for joint in ElementTree.parse("robot.urdf").iter("joint")}
    height, link = 0.0, "camera"
    while link in joints:
        height += float(joints[link].find("origin").get("xyz").split()[2])
        link = joints[link].find("parent").get("link")
    axle = next(joint for joint in joints.values() if joint.get("name") == "axle")
    limit = axle.find("limit")
    return axle.get("type"), limit.get("lower"), limit.get("upper"), round(height, 3), round(float(data.body("camera").xpos[2]), 3)


two, three = converted(["0 0 1", "0 1 0"]), converted(["0 0 1", "0 1 0", "1 0 0"])
print("mjcf-urdf-simple-converter", version("mjcf-urdf-simple-converter"), "axle:", two[:3], "camera's height, two hinges:", two[3:],
      "three hinges:", three[3:])
same = two == ("revolute", "0.0", "0.0", 1.0, 1.0) and three[3:] == (0.9, 1.0)
sys.exit(0 if same else "changed: wheels turn")
PYTHON
