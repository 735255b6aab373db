#!/usr/bin/env bash
# truerig 0.1.1 with mujoco 3.3.7, robots from MJCF to URDF with a log of all that was lost: a mesh gets the place that MuJoCo gives
# it once it has moved the mesh to its centre of mass and turned it to its main axes, but the file named is the one as drawn. Every
# mesh not drawn about its centre stands aside by that centre, collisions too. The pos of a joint, a hinge off the origin of its
# body, is left out, and the body turns about its origin; a wheel's hinge is a revolute joint without limits, no continuous one.
# Seen here: a box drawn from z 0.3 to 0.7 in its arm, in the URDF 0.8 to 1.2; the arm, hinged 0.2 m above its origin and turned
# by 90 degrees, at (-0.2, 0, 1.2) by MuJoCo and at (0, 0, 1) by the URDF; nothing in the log.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps truerig==0.1.1
"$tmp/venv/bin/pip" install -q mujoco==3.3.7 numpy==2.2.6 scipy==1.15.3 trimesh==4.6.13
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import math
import sys
from importlib.metadata import version
from xml.etree import ElementTree

import mujoco
import trimesh
import truerig

box = trimesh.creation.box((0.1, 0.2, 0.4))
box.apply_translation((0, 0, 0.5))
box.export("part.stl")
with open("robot.xml", "w", encoding="utf-8") as file:
    file.write("""<mujoco><asset><mesh name="part" file="part.stl"/></asset><worldbody>
        <body name="base"><inertial pos="0 0 0" mass="9" diaginertia="1 1 1"/>
        <body name="arm" pos="0 0 1"><joint name="elbow" axis="0 1 0" pos="0 0 0.2" range="-90 90"/>
        <geom type="mesh" mesh="part"/></body>
        <body name="wheel" pos="0 0.3 0"><joint name="axle" axis="0 1 0"/><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/></body>
        </body></worldbody></mujoco>""")
model = mujoco.MjModel.from_xml_path("robot.xml")
data = mujoco.MjData(model)
data.joint("elbow").qpos[0] = math.pi / 2
mujoco.mj_forward(model, data)
arm = [round(float(value), 3) + 0.0 for value in data.body("arm").xpos]

robot = truerig.convert("robot.xml", "robot.urdf")
tree = ElementTree.parse("robot.urdf").getroot()
collision = tree.find("link[@name='arm']/collision")
drawn = trimesh.load(collision.find("geometry/mesh").get("filename"))
lift = float(collision.find("origin").get("xyz").split()[2])
heights = [round(float(value) + lift, 3) for value in drawn.bounds[:, 2]]
# A joint of URDF turns the child about the joint's own origin, so the child's origin stays there at every angle.
elbow = [float(value) for value in tree.find("joint[@name='elbow']/origin").get("xyz").split()]
axle = tree.find("joint[@name='axle']")
print("truerig", version("truerig"), "box drawn:", drawn.bounds[:, 2].round(3).tolist(), "in the URDF:", heights, "arm:", arm, elbow,
      "axle:", axle.get("type"), axle.find("limit"), "log:", len(robot.loss_log))
same = heights == [0.8, 1.2] and arm == [-0.2, 0.0, 1.2] and elbow == [0.0, 0.0, 1.0] and not robot.loss_log
sys.exit(0 if same and (axle.get("type"), axle.find("limit")) == ("revolute", None) else "changed: meshes and hinges stay")
PYTHON
