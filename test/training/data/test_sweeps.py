"""Clouds of K sweeps on the wall of two colours: a pixel stays true of its point, whatever is augmented."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from colour_scene import ColourEncoder, Walls

from ov3d_perception.errors import DatasetError
from ov3d_perception.language.sample import sample_features
from ov3d_perception.lifting.frames import prepare_maps
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.recipes.method_specs import Clip2SceneSpec, SlidrSpec
from ov3d_perception.recipes.specs import (
    AugmentSpec,
    NetworkSpec,
    PairSpec,
    Recipe,
    SourceSpec,
    TeacherSpec,
)
from ov3d_perception.training.data.clouds import CloudDataset, Columns, collate
from ov3d_perception.training.data.readers import SweepReader
from ov3d_perception.training.data.superpixels import superpixels

STILL = AugmentSpec(rotate=False, flip=False, scale=0, jitter=0, translate=0, dropout=0, intensity=0)
RECIPE = Recipe(
    name="walls",
    train=SourceSpec("walls", ""),
    teacher=TeacherSpec("colour"),
    pairs=PairSpec(occlusion=False),
    network=NetworkSpec(voxel_size=0.3, inputs=("ones", "intensity")),
    method=Clip2SceneSpec(grid=0.3),
)


def sweeps(tmp_path, source=None, online=False, **changes):
    recipe = dataclasses.replace(RECIPE, **changes)
    walls, folder = Walls("", sweeps=5) if source is None else source, tmp_path / "cache"
    found = None
    if not online:
        teacher = ImageTeacher(ColourEncoder(), recipe.teacher, folder)
        found, folder = prepare_maps(walls, teacher, recipe.pairs)[0], teacher.folder
    method = recipe.method
    segments = partial(superpixels, spec=method) if isinstance(method, SlidrSpec) else None
    reader = SweepReader(walls, found, folder, recipe, segments)
    return CloudDataset(reader, recipe, Columns(grid=method.grid, grid_points=method.grid_points))


def says_red(pairs):
    """Whether each pair's pixel is red, by the batch's maps or by what the encoder makes of its images."""
    maps = pairs.maps or [ColourEncoder().dense([image])[0] for image in pairs.images]
    red = torch.zeros(len(pairs.uv), dtype=torch.bool)
    for number, (dense, size) in enumerate(zip(maps, pairs.sizes, strict=True)):
        mine = pairs.view == number
        red[mine] = sample_features(dense.float(), pairs.uv[mine], size).argmax(1) == 0
    return red


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("online", [False, True])
def test_red_pixels_see_shining_points_under_all_augmentations(tmp_path, online, merged):
    """The image's left half is red and the wall's left half shines; the encoder blurs the border between them."""
    dataset = sweeps(
        tmp_path,
        online=online,
        augment=AugmentSpec(intensity=0, image_flip=True, image_crop=0.5, wedge=0.7),
        method=dataclasses.replace(RECIPE.method, merged=merged),
    )
    for turn in range(6):
        batch = collate([dataset[turn, 0], dataset[turn, 1]])
        assert len(batch.pairs.maps) == 2 * (not online)
        assert len(batch.pairs.images) == 2 * online
        shines = batch.feats[batch.pairs.voxel, 1] > 0.5
        assert (says_red(batch.pairs) == shines).float().mean() > 0.93
        assert 0.1 < shines.float().mean() < 0.9
        assert set(batch.pairs.sweep.tolist()) == {0, 1, 2}
        assert batch.clouds == (2 if merged else 6)
        assert set(batch.coords[:, 0].tolist()) == set(range(batch.clouds))


def test_a_wrong_pairing_would_be_noticed(tmp_path):
    batch = sweeps(tmp_path)[0, 0]
    shines = batch.feats[batch.pairs.voxel, 1] > 0.5
    assert (says_red(dataclasses.replace(batch.pairs, uv=batch.pairs.uv.flip(0))) == shines).float().mean() < 0.7


def test_grids_gather_what_lies_together_in_the_key_frame(tmp_path):
    """Without augmentation voxels are grids, so pairs of one grid have one place, whichever sweep they come from."""
    batch = sweeps(tmp_path, augment=STILL)[0, 0]
    places = batch.coords[batch.pairs.voxel][:, 1:]
    unique, row = torch.unique(places, dim=0, return_inverse=True)
    pairs = torch.unique(torch.stack([row, batch.pairs.grid], dim=1), dim=0)
    assert len(pairs) == len(unique) == int(batch.pairs.grid.max()) + 1
    shared = [len(torch.unique(batch.pairs.sweep[batch.pairs.grid == n])) for n in range(len(unique))]
    assert max(shared) == 3


def test_sweeps_are_clouds_of_their_own_unless_merged(tmp_path):
    batch = sweeps(tmp_path, augment=STILL)[0, 0]
    assert (batch.coords[batch.pairs.voxel, 0] == batch.pairs.sweep).all()
    merged = sweeps(tmp_path, augment=STILL, method=dataclasses.replace(RECIPE.method, merged=True))[0, 0]
    assert (merged.coords[:, 0] == 0).all()
    assert set(merged.pairs.sweep.tolist()) == {0, 1, 2}


def test_limits_hold(tmp_path):
    method = dataclasses.replace(RECIPE.method, grid=2.0, grid_points=3)
    batch = sweeps(tmp_path, method=method)[0, 0]
    assert int(torch.bincount(batch.pairs.grid).max()) == 3
    few = sweeps(tmp_path, pairs=PairSpec(occlusion=False, targets=50))[0, 0]
    assert 20 < len(few.pairs.voxel) <= 50


def test_the_key_alone_decides(tmp_path):
    dataset = sweeps(tmp_path)
    one, two, other = dataset[3, 1], dataset[3, 1], dataset[4, 1]
    for name in ("coords", "feats", "voxel"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), rtol=0, atol=0)
    for name in ("voxel", "grid", "uv"):
        torch.testing.assert_close(getattr(one.pairs, name), getattr(two.pairs, name), rtol=0, atol=0)
    assert one.pairs.uv.shape != other.pairs.uv.shape or not torch.equal(one.pairs.uv, other.pairs.uv)


def test_unusable_frames_are_replaced_and_told(tmp_path):
    dataset = sweeps(tmp_path, Walls("", 4, blind=(1,), corrupt=(0, 3), sweeps=2), online=True)
    batch = dataset[0, 3]
    assert len(batch.pairs.voxel)
    assert [error.split(":")[0] for error in batch.skipped] == ["frame 3", "frame 0", "frame 1"]
    assert "image 3 is broken" in batch.skipped[0]
    assert "No pixel" in batch.skipped[2]
    assert collate([dataset[0, 2], batch]).skipped == batch.skipped


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="None of 2 frames"):
        sweeps(tmp_path, Walls("", 2, blind=(0,), corrupt=(1,)), online=True)[0, 0]


def test_batches_number_through(tmp_path):
    dataset = sweeps(tmp_path)
    one, two = dataset[0, 0], dataset[0, 1]
    both = collate([one, two])
    assert both.frames == 2
    second = both.pairs.frame == 1
    torch.testing.assert_close(both.feats[both.pairs.voxel[second]], two.feats[two.pairs.voxel])
    torch.testing.assert_close(both.pairs.grid[second], two.pairs.grid)
    assert (both.coords[both.pairs.voxel[second], 0] == two.coords[two.pairs.voxel, 0] + one.clouds).all()
    assert (both.pairs.view[second] == two.pairs.view + len(one.pairs.sizes)).all()


def test_superpixels_do_not_cross_colours(tmp_path):
    pytest.importorskip("skimage")
    method = SlidrSpec(sweeps=1, segments=20, sigma=0.5)
    batch = sweeps(tmp_path, method=method, augment=STILL)[0, 0]
    left = batch.pairs.uv[:, 0] < 31.5
    assert len(torch.unique(batch.pairs.segment)) > 8
    assert not set(batch.pairs.segment[left].tolist()) & set(batch.pairs.segment[~left].tolist())
    assert np.all(batch.pairs.segment.numpy() < 40)


def test_superpixels_are_made_once_an_image(tmp_path, monkeypatch):
    segmentation = pytest.importorskip("skimage.segmentation")
    made, real = [], segmentation.slic
    monkeypatch.setattr(segmentation, "slic", lambda *a, **k: (made.append(k["n_segments"]), real(*a, **k))[1])
    method = SlidrSpec(sweeps=1, segments=20, sigma=0.5)
    first, again = (sweeps(tmp_path, method=method, augment=STILL)[0, 0] for _ in range(2))
    assert made == [20]
    torch.testing.assert_close(first.pairs.segment, again.pairs.segment)
    sweeps(tmp_path, method=dataclasses.replace(method, segments=10), augment=STILL)[0, 0]
    sweeps(tmp_path, method=method, augment=STILL, online=True)[0, 0]
    assert made == [20, 10, 20]
