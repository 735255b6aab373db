"""From samples to batches: the target stays with its points through augmentation, voxels and batching."""

import dataclasses

import numpy as np
import pytest
import torch
from colour_scene import ColourEncoder, Walls

from ov3d_perception.lifting.frames import prepare
from ov3d_perception.lifting.image_teacher import Teacher
from ov3d_perception.recipes.specs import NetworkSpec, OptimiserSpec, PairSpec, Recipe, SourceSpec, TeacherSpec
from ov3d_perception.training.data.batches import EpochSampler, PairDataset, collate, near

RECIPE = Recipe(
    "r",
    SourceSpec("walls", ""),
    TeacherSpec("c"),
    network=NetworkSpec(inputs=("ones", "intensity"), voxel_size=0.2),
)


@pytest.fixture
def samples(tmp_path):
    teacher = Teacher(ColourEncoder(), RECIPE.teacher, tmp_path / "cache")
    return prepare(Walls("", 2), teacher, PairSpec(occlusion=False), tmp_path / "pairs")[0]


@pytest.mark.parametrize("turn", range(5))
def test_targets_follow_their_points(samples, turn):
    """Red points shine, green ones do not: the intensity of a taught voxel tells which target it must have."""
    batch = PairDataset(samples, RECIPE)[turn, 0]
    clear = batch.target.max(1).values > 0.97
    red = batch.target[clear].argmax(1) == 0
    assert clear.float().mean() > 0.7
    shining = batch.feats[batch.rows[clear], 1] > 0.5
    assert (red == shining).float().mean() > 0.97
    torch.testing.assert_close(batch.target.norm(dim=1), torch.ones(len(batch.rows)))


def test_a_sample_depends_on_seed_turn_and_index_alone(samples):
    one, two = PairDataset(samples, RECIPE), PairDataset(samples, RECIPE)
    two[7, 1]
    for a, b in zip(vars(one[3, 0]).values(), vars(two[3, 0]).values(), strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.equal(one[3, 0].feats, one[4, 0].feats)
    other = PairDataset(samples, dataclasses.replace(RECIPE, seed=2))
    assert not torch.equal(one[3, 0].feats, other[3, 0].feats)


def test_targets_are_limited(samples):
    recipe = dataclasses.replace(RECIPE, optimiser=OptimiserSpec(targets=17))
    batch = PairDataset(samples, recipe)[0, 0]
    assert batch.rows.shape == (17,)
    assert batch.target.shape == (17, 3)
    assert (batch.rows.diff() > 0).all()


def test_batching_keeps_clouds_apart(samples):
    dataset = PairDataset(samples, RECIPE)
    parts = [dataset[0, 0], dataset[0, 1]]
    batch = collate(parts)
    assert batch.coords[:, 0].unique().tolist() == [0, 1]
    second = batch.rows >= len(parts[0].coords)
    torch.testing.assert_close(batch.feats[batch.rows[second]], parts[1].feats[parts[1].rows])
    torch.testing.assert_close(batch.target[second], parts[1].target)
    assert (parts[1].coords[:, 0] == 0).all()


def test_near_keeps_the_surroundings_of_pairs():
    xyz = np.array([[0.5, 0.5, 0], [1.5, 0.5, 3], [2.5, 0.5, 0], [-0.5, -0.5, 0], [0.5, 7, 0]], np.float32)
    np.testing.assert_array_equal(near(xyz, np.array([0]), 1.0), [True, True, False, True, False])
    assert not near(xyz, np.zeros(0, np.int64), 1.0).any()


def test_order_depends_on_seed_and_epoch_and_covers_everything():
    sampler = EpochSampler(5, repeat=2, seed=1)
    first = list(sampler)
    assert len(first) == len(sampler) == 10
    assert sorted(first) == [(turn, index) for turn in (0, 1) for index in range(5)]
    assert first == list(EpochSampler(5, 2, 1))
    sampler.set_epoch(1)
    assert sorted(turn for turn, _ in sampler) == [2] * 5 + [3] * 5
    assert [i for _, i in sampler] != [i for _, i in first]


def test_mixing_lays_a_second_cloud_over_the_first(samples):
    """Both clouds' voxels are there, and each taught voxel still has the target of its own colour."""
    plain = dataclasses.replace(RECIPE, augment=dataclasses.replace(RECIPE.augment, mix=0.0))
    mixed = dataclasses.replace(RECIPE, augment=dataclasses.replace(RECIPE.augment, mix=1.0))
    alone, both = PairDataset(samples, plain)[2, 0], PairDataset(samples, mixed)[2, 0]
    assert len(both.rows) > 1.5 * len(alone.rows)
    assert len(both.coords) > 1.5 * len(alone.coords)
    clear = both.target.max(1).values > 0.97
    red = both.target[clear].argmax(1) == 0
    assert (red == (both.feats[both.rows[clear], 1] > 0.5)).float().mean() > 0.97
    torch.testing.assert_close(both.target.norm(dim=1), torch.ones(len(both.rows)))
