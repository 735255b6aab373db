"""Superpoints kept beside samples, and those of voxels, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.superpoints import Vccs, superpoints
from ov3d_perception.lifting.pairs import Sample
from ov3d_perception.recipes.method_specs import GgsdSpec
from ov3d_perception.training.data import superpoints as stored
from ov3d_perception.training.data.superpoints import stored_superpoints, voxel_superpoints


@pytest.fixture
def sample() -> Sample:
    rng = np.random.default_rng(0)
    none = np.zeros(0, np.int64)
    xyz = rng.uniform(-2, 2, (400, 3)).astype(np.float32)
    nothing = np.zeros((0, 3), np.int8), np.zeros(0, np.float16), np.zeros(0, np.float16)
    return Sample(xyz, rng.random(400).astype(np.float32), none, none, *nothing)


def test_they_are_found_once_for_each_setting(sample, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(stored, "superpoints", lambda *what: (calls.append(what[-1]), superpoints(*what))[1])
    spec = GgsdSpec(voxel=0.2, seed=1.0, near=3.0)
    first, again = (stored_superpoints(tmp_path / "000003.npz", sample, spec) for _ in range(2))
    assert calls == [Vccs(voxel=0.2, seed=1.0, near=3.0)]
    assert first.dtype == np.int64 and (first == again).all()
    assert (first == superpoints(sample.xyz, sample.intensity[:, None], calls[0])).all()
    stored_superpoints(tmp_path / "000003.npz", sample, dataclasses.replace(spec, near=None))
    stored_superpoints(tmp_path / "000004.npz", sample, spec)
    assert len(calls) == 3 and calls[1].near is None


def test_a_damaged_file_is_named(sample, tmp_path):
    stored_superpoints(tmp_path / "000003.npz", sample, GgsdSpec())
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:40])
    with pytest.raises(DatasetError, match=f"{kept.name} cannot be read"):
        stored_superpoints(tmp_path / "000003.npz", sample, GgsdSpec())


def test_a_voxel_is_of_the_superpoint_of_most_of_its_points():
    """Voxel 0: 7 7 2; voxel 1: 2 7, a tie; voxel 2: none twice, 3; voxel 3: none."""
    voxel = torch.tensor([0, 1, 0, 2, 0, 1, 2, 2, 3])
    superpoint = torch.tensor([7, 7, 2, -1, 7, 2, 3, -1, -1])
    assert voxel_superpoints(voxel, superpoint, 4).tolist() == [7, 2, -1, -1]


def test_of_many_voxels_it_is_what_counting_says():
    torch.manual_seed(0)
    voxel = torch.cat([torch.arange(50), torch.randint(0, 50, (300,))])
    superpoint = torch.randint(-1, 6, (350,))
    found = voxel_superpoints(voxel, superpoint, 50)
    for number in range(50):
        counts = [int((superpoint[voxel == number] == s).sum()) for s in range(-1, 6)]
        assert found[number] == counts.index(max(counts)) - 1
    nothing = torch.zeros(0, dtype=torch.int64)
    assert voxel_superpoints(nothing, nothing, 0).shape == (0,)
