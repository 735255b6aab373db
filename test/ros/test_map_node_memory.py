"""A map_node that answers from a text bank imports no PyTorch: some 600 MB and six seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ANSWER = """
import sys
import numpy as np
import rclpy
from ov3d_msgs.srv import QueryText
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.ros.map_node import MapNode

rclpy.init()
node = MapNode()
bank = node.session.words.text
node.session.basis = basis = Basis(np.eye(len(bank.embeddings[0]), dtype=np.float32), bank.identity, bank.logit_scale)
centres = np.indices((6, 6, 6)).reshape(3, -1).T.astype(np.float32) * 0.2
for stamp in range(3):
    node.session.integrate(basis.basis_id, 0.2, centres, np.repeat(bank.embed(["car"]), len(centres), 0), stamp)
response = node._on_query(QueryText.Request(words=["car"]), QueryText.Response())
print(response.message)
node._publish_map()
node.close()
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("torch", "open_clip")))
rclpy.shutdown()
"""


def test_map_node_imports_no_torch(ros_domain: int, tmp_path: Path) -> None:
    environment = {**os.environ, "ROS_HOME": str(tmp_path), "ROS_LOG_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", ANSWER], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    answer, modules = result.stdout.splitlines()[-2:]
    assert answer.startswith("car: 1, best") and modules == "[]", result.stdout
