"""Tests of a process of their own, which test_device.py starts."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from pretended_device import AWAY, PretendedDevice
from still_scene import small_scene

from ov3d_perception.fields.evaluate import look_at
from ov3d_perception.fields.field import FieldSettings
from ov3d_perception.fields.field_file import FieldFile
from ov3d_perception.fields.language_branch import BranchSettings
from ov3d_perception.fields.reconstruct import Reconstruction, ReconstructionSettings
from ov3d_perception.fields.scene import space_of
from ov3d_perception.fields.segment import Segmentation, SegmentationSettings
from ov3d_perception.fields.teachers import Teachers
from ov3d_perception.fields.to_map import views_of
from ov3d_perception.methods.ovs3d import Ovs3dOptions

SHAPE = FieldSettings((4, 4, 4), (8, 8, 8), 9, 16, 1, 1, shift=-5.0, alpha=6e-3)
PLAN = ReconstructionSettings(
    10, 64, 2000, 12**3, 16**3, (4,), (5, 7), True, background=0.5, closed=0.1, fade=0.5, l1=(1e-4, 1e-4)
)
WORDS = SegmentationSettings(4, 2, 16, 1, 3)


def run(device: torch.device) -> list[np.ndarray]:
    """Both trainings, a view's colours and probabilities, and what a map is told of the first view."""
    scene = small_scene()
    space = space_of(scene)
    first = Reconstruction(scene, space, SHAPE, PLAN, device=device)
    list(first.run())
    rng = np.random.default_rng(0)
    teachers = Teachers(
        {n: rng.normal(size=(2, 6, 8, 5)).astype(np.float16) for n in scene.training},
        {n: rng.normal(size=(6, 8, 3)).astype(np.float16) for n in scene.training},
    )
    text = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(4, 5)).astype(np.float32)), dim=1)
    branch = BranchSettings(5, 2, (4, 4, 4), 8)
    second = Segmentation(scene, space, first.field, teachers, text, branch, WORDS, Ovs3dOptions(), 0.5)
    list(second.run())
    recipe = {"images": {"views": 1.0, "downsample": 1.0}, "segmentation": {"weight": 0.0}}
    words = ("a", "b", "c", "d")
    content = FieldFile(first.field, space, second.branch, words=words, text=text, background=0.5, recipe=recipe)
    _, probability, colours = look_at(content, scene.views[2])
    seen = next(views_of(content, scene, 100.0))
    return [probability, colours.numpy(), seen.points, seen.features]


def test_a_pretended_device_refuses_tensors_of_two_devices() -> None:
    with PretendedDevice():
        there = torch.arange(3.0, device=AWAY)
        assert there.device.type == AWAY.type and (2 * there).sum().item() == 6
        assert (there + 1).cpu().tolist() == [1, 2, 3]
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(3)


def test_another_device_makes_the_same_field() -> None:
    found = []
    for device in (torch.device("cpu"), AWAY):
        with nullcontext() if device.type == "cpu" else PretendedDevice():
            found.append(run(device))
    for here, away in zip(*found, strict=True):
        assert here.shape == away.shape and np.isfinite(here).all()
        np.testing.assert_allclose(away, here, atol=1e-3)
