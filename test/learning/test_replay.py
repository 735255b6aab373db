"""The memory of a site: diverse, and bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.datasets.kept import Kept
from ov3d_perception.learning import replay
from ov3d_perception.learning.replay import k_center, remember
from ov3d_perception.types import Camera, Frame, Preparation, Scan, Sweep, View


def test_each_choice_is_the_farthest_from_those_before() -> None:
    """On a line 0, 1, 2, 6, 10: 2 is nearest to the mean (3.8), 10 is 8 away from it, 6 is 4 away from both."""
    points = np.float32([[0], [1], [2], [6], [10]])
    assert k_center(points, 3) == [2, 4, 3]


def test_no_more_than_there_are() -> None:
    assert k_center(np.zeros((2, 3), np.float32), 5) == [0, 1]
    assert k_center(np.zeros((2, 3), np.float32), 0) == [], "and none where none are wanted"


def test_rare_frames_are_kept_among_many_alike() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 0.01, (200, 4)), np.eye(4)]).astype(np.float32)
    assert {200, 201, 202, 203} <= set(k_center(points, 6))


def test_frames_for_the_gate_and_for_training_are_bounded_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    xyz = np.zeros((4, 3), np.float32)
    camera = Camera("front", 8, 6, np.eye(3))
    view = View(camera, np.eye(4), np.zeros((6, 8, 3), np.uint8), 0)
    frames = [Frame(f"d/{n}", (Sweep(Scan(xyz, xyz[:, 0], n, "lidar"), np.eye(4)),), (view,)) for n in range(12)]
    monkeypatch.setattr(replay, "descriptor", lambda _, frame: np.float32([int(frame.name[2:])]))
    for exam, most in ((False, 4), (True, 2), (False, 4)):
        remember(tmp_path, frames, f"bag {exam}", None, most, None, Preparation(), exam)  # type: ignore[arg-type]
    assert (len(Kept(tmp_path, "train")), len(Kept(tmp_path, "exam"))) == (2, 1), "half of what may be kept, of one bag"
    remember(tmp_path, frames, "another", None, 3, None, Preparation())  # type: ignore[arg-type]
    assert (len(Kept(tmp_path, "train")), len(Kept(tmp_path, "exam"))) == (3, 1)
    remember(tmp_path, frames, "another", None, 0, None, Preparation())  # type: ignore[arg-type]
    assert len(Kept(tmp_path, "train")) == 0, "one alone would be half of what the next training sees"
