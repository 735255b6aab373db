"""docs/python.md: its blocks run, in order, in one interpreter that has no ROS."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"

_NO_ROS = """
import sys
class NoRos:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("rclpy", "ov3d_msgs"):
            raise ImportError(f"{name}: this page needs no ROS")
sys.meta_path.insert(0, NoRos())
"""


def test_the_page_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ground = np.column_stack([rng.uniform(-20, 20, (4000, 2)), np.full(4000, -1.7), rng.uniform(20, 60, 4000)])
    ground[7, :3] = np.nan
    np.save(tmp_path / "scan.npy", ground)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    checks = """
assert labels.label[7] == 65535 and np.isnan(cosine[7]) and len(labels) == len(points) == len(cosine)
assert several.shape == (len(points), 2) and np.array_equal(several[:, 0], cosine, equal_nan=True)
assert labels.names == ("vehicle", "ground") and labels.of("ground").mean() > 0.9, labels.of("ground").mean()
assert cloud.points.shape == (4000, 4)
assert Path("labelled.ply").read_bytes().startswith(b"ply")
"""
    code = "\n".join([_NO_ROS, *blocks, checks])
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
