"""A tiny labelled world for the tests of the training room: two walls of points, two cameras, a colour encoder."""

from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from ov3d_perception.datasets.registry import SOURCES
from ov3d_perception.datasets.source import FrameSource
from ov3d_perception.errors import ImageError
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.recipes.method_specs import Clip2SceneSpec
from ov3d_perception.recipes.specs import (
    AugmentSpec,
    NetworkSpec,
    OptimiserSpec,
    PairSpec,
    Recipe,
    SourceSpec,
    TeacherSpec,
    VocabularySpec,
)
from ov3d_perception.training.run import train
from ov3d_perception.types import Camera, EncoderIdentity, Frame, Scan, Sweep, View

IDENTITY = EncoderIdentity("colour", "test", 3)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
CAMERA = Camera("front", 64, 48, np.array([[32.0, 0, 31.5], [0, 32.0, 23.5], [0, 0, 1]]))
OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Pose of a camera that looks along x."""


class ColourEncoder:
    """Patches of 4 pixels; the feature is the patch's mean colour, of unit norm."""

    identity = IDENTITY
    logit_scale = 100.0
    has_text = False
    dense_key = "mean colour of 4 pixels"

    def __init__(self):
        self.calls = 0

    def dense_size(self, image_size, size=None):
        return size or image_size

    def see(self, **changes):
        changed = copy(self)
        changed.dense_key = f"{self.dense_key} {changes}"
        return changed

    def dense(self, images, size=None):
        self.calls += 1
        tensors = [torch.tensor(i).permute(2, 0, 1) if isinstance(i, np.ndarray) else i for i in images]
        pixels = torch.stack(tensors).float()
        grid = [side // 4 for side in (size or pixels.shape[2:])]
        pooled = torch.nn.functional.adaptive_avg_pool2d(pixels, grid)
        return torch.nn.functional.normalize(pooled + 1e-3, dim=1)


def bank():
    return TextBank(list(COLOURS), np.eye(3, dtype=np.float32), IDENTITY)


def view(image, T_world_camera=OPTICAL):
    return View(CAMERA, T_world_camera, image)


def split_image(left="red", right="green"):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32], image[:, 32:] = COLOURS[left], COLOURS[right]
    return image


def wall(seed, count=600):
    """Points at x = 8; y > 0 is the image's left half. Left: label 0 and shining (intensity); right: label 1, dull."""
    rng = np.random.default_rng(seed)
    y, z = rng.uniform(-10, 10, count), rng.uniform(-4, 4, count)
    xyz = np.column_stack([np.full(count, 8.0) + rng.normal(0, 0.05, count), y, z]).astype(np.float32)
    labels = (y < 0).astype(np.int32)
    return Scan(xyz, np.where(labels == 0, 0.9, 0.1).astype(np.float32)), labels


def earlier(seed, number):
    """A sweep ``number`` * 0.1 s before the key sweep, from ``number`` * (0.5, -0.1) m behind it, of other points."""
    scan, _ = wall(1000 * number + seed)
    pose = np.eye(4)
    pose[:2, 3] = -0.5 * number, 0.1 * number
    xyz = (scan.xyz - pose[:3, 3]).astype(np.float32)
    return Sweep(Scan(xyz, scan.intensity, stamp=-100_000_000 * number), pose)


class Walls(FrameSource):
    """Frames of one wall each. blind: frames whose camera looks away. corrupt: frames whose image cannot be read.

    sweeps: the key sweep and those before it. lossy: frames whose last sweep is missing.
    """

    def __init__(self, root, frames=4, blind=(), corrupt=(), first=0, sweeps=1, lossy=()):
        self.root, self.count, self.blind, self.corrupt, self.first = Path(root), frames, blind, corrupt, first
        self.sweeps, self.lossy = sweeps, lossy
        self.labelset = LabelSet(
            "colours", ("red", "green"), {"red": ["red"], "green": ["green"]}, {"red": [0], "green": [1]}
        )
        self.sequences = ("a",)

    def __len__(self):
        return self.count

    def frame(self, index):
        if index in self.corrupt:
            raise ImageError(f"image {index} is broken", "Record it again")
        scan, labels = wall(self.first + index)
        away = np.diag([-1.0, -1, 1, 1]) @ OPTICAL
        pose = away if index in self.blind else OPTICAL
        if index in self.lossy:
            self.leave_out("missing sweep", index)
        count = self.sweeps - (index in self.lossy)
        sweeps = (Sweep(scan, np.eye(4)), *(earlier(self.first + index, k) for k in range(1, count)))
        return Frame(f"a/{index:06d}", sweeps, (view(split_image(), pose),), labels)


def walls_recipe(tmp_path, monkeypatch):
    """A short CLIP2Scene run on walls; one frame of four is blind and one is corrupt."""
    monkeypatch.setenv("OV3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ov3d_perception.training.run.load_encoder", lambda *_: ColourEncoder())
    monkeypatch.setitem(SOURCES, "walls", ("colour_scene", "Walls"))
    bank().save(tmp_path / "bank.npz")
    labelset = tmp_path / "colours.yaml"
    labelset.write_text("name: colours\nclasses: {red: {prompts: [red]}, green: {prompts: [green]}}\n")
    return Recipe(
        name="walls",
        train=SourceSpec("walls", "", {"frames": 4, "blind": [3], "corrupt": [0], "sweeps": 4}),
        validation=SourceSpec("walls", "", {"frames": 2, "first": 50}),
        teacher=TeacherSpec("colour"),
        vocabulary=VocabularySpec(str(labelset), str(tmp_path / "bank.npz")),
        pairs=PairSpec(occlusion=False),
        network=NetworkSpec(width=0.1, voxel_size=0.3, inputs=("ones", "intensity")),
        augment=AugmentSpec(intensity=0.02),
        optimiser=OptimiserSpec(epochs=6, batch=2, learning_rate=0.01),
        method=Clip2SceneSpec(grid=0.3, switch_after=3),
        repeat=4,
    )


class KilledError(Exception):
    """What a run dies of."""


def assert_resumes(recipe, folder, monkeypatch, *kills, between=lambda: None):
    """A run that is killed and resumed ends in the weights of one that is not.

    kills: for each killed run a module and the number of its step that dies. between: called after the kill.
    """
    torch.set_num_threads(1)
    train(recipe, folder / "whole", device="cpu")
    whole = load_checkpoint(folder / "whole" / "student.safetensors")[0].state_dict()
    for number, (module, killed) in enumerate(kills):
        out = folder / f"killed{number}"
        with monkeypatch.context() as patch:
            patch.setattr(module, "training_step", dies_in(module.training_step, killed))
            with pytest.raises(KilledError):
                train(recipe, out, device="cpu")
        between()
        torch.rand(100)
        train(recipe, out, resume=True, device="cpu")
        resumed = load_checkpoint(out / "student.safetensors")[0].state_dict()
        for (name, a), b in zip(whole.items(), resumed.values(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, msg=f"{name}, {module.__name__} killed in step {killed}")


def dies_in(step, killed):
    """A module's ``training_step`` that raises KilledError when it is called for the time ``killed``."""
    calls = []

    def dies(self, batch, number):
        calls.append(number)
        if len(calls) == killed:
            raise KilledError
        return step(self, batch, number)

    return dies
