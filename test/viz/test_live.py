"""The Rerun stream, written to a file and read back with Rerun's own tool."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rerun", reason="rerun-sdk is not installed")

from ov3d_perception.errors import Ov3dError
from ov3d_perception.geometry.boxes import Box
from ov3d_perception.viz.live import LiveStream


def printed(path: Path) -> str:
    """What `rerun rrd print` says of a recording."""
    command = [sys.executable, "-m", "rerun", "rrd", "print", "-vvv", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_the_recording_holds_what_was_shown(tmp_path: Path) -> None:
    stream = LiveStream(tmp_path / "new" / "view.rrd")
    xyz, rgb = np.ones((5, 3), np.float32), np.full((5, 3), 200, np.uint8)
    T = np.eye(4)
    T[:3, 3] = [1234.5, 2.0, 3.0]
    stream.scan(10**18, xyz, rgb, T)
    stream.voxels(10**18, xyz, rgb)
    stream.mask(10**18, np.array([[-1, 0], [60, 100]], np.int8))
    box = Box(np.array([1.0, 2.0, 3.0]), np.array([4.0, 2.0, 1.5]), 0.5, "excavator", "excavator 0.87")
    stream.answers(10**18 + 1, "excavator", [box], "excavator: 1")
    stream.answers(10**18 + 2, "giraffe", [], "giraffe: nothing above the threshold")
    stream.close()
    text = printed(tmp_path / "new" / "view.rrd")
    for entity in ("/map/scan", "/map/voxels", "/map/answers", "/mask", "/log"):
        assert entity in text, entity
    for content in ("1234.5", "excavator 0.87", "nothing above the threshold", "2001-09-09"):
        assert content in text, content


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Ov3dError, match="--save"):
        LiveStream(tmp_path / "file" / "view.rrd")
