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
    ground = np.column_stack([rng.uniform(-20, 20, (4000, 2)), np.full(4000, -1.7), np.full(4000, 40.0)])
    ground[7, :3] = np.nan
    np.save(tmp_path / "scan.npy", ground)
    moving = """
drive = []
for metres in range(3):
    T_map_lidar = np.eye(4)
    T_map_lidar[:3, 3] = metres, 0, 1.7
    drive.append((np.load("scan.npy") - np.array([metres, 0, 0, 0]), T_map_lidar))
"""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    checks = """
assert labels.label[7] == 65535 and np.isnan(cosine[7]) and len(labels) == len(points) == len(cosine)
assert several.shape == (len(points), 2) and np.array_equal(several[:, 0], cosine, equal_nan=True)
assert labels.names == ("vehicle", "ground") and labels.of("ground").mean() > 0.9, labels.of("ground").mean()
assert cloud.points.shape == (4000, 4)
assert Path("labelled.ply").read_bytes().startswith(b"ply")
"""
    checks += """
assert [match.word for match in again.matches][:1] == ["grass"] and abs(again.matches[0].centroid[2]) < 0.2, str(again)
assert "grass: " in str(answer) and "in map" in str(answer) and len(site.map) > 1000
"""
    code = "\n".join([_NO_ROS, "import numpy as np", moving, *blocks, checks])
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
