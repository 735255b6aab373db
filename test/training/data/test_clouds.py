"""From clouds to batches: every column stays with its points through augmentation, voxels and batching."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from colour_scene import ColourEncoder, Walls

from ov3d_perception.errors import ImageError
from ov3d_perception.lifting.compact import Compact
from ov3d_perception.lifting.frames import prepare_samples, sample_path
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.recipes.specs import NetworkSpec, PairSpec, Recipe, SourceSpec, TeacherSpec
from ov3d_perception.training.data.augment import in_sector, near
from ov3d_perception.training.data.clouds import Cloud, CloudDataset, Columns, collate
from ov3d_perception.training.data.readers import SampleReader
from ov3d_perception.training.data.sampler import EpochSampler
from ov3d_perception.types import UNLABELLED

RECIPE = Recipe(
    "r",
    SourceSpec("walls", ""),
    TeacherSpec("c"),
    network=NetworkSpec(inputs=("ones", "intensity"), voxel_size=0.2),
)


@pytest.fixture
def samples(tmp_path):
    teacher = ImageTeacher(ColourEncoder(), RECIPE.teacher, tmp_path / "cache")
    found, _ = prepare_samples(Walls("", 2), teacher, PairSpec(occlusion=False), tmp_path / "pairs")
    return SampleReader(tmp_path / "pairs", found)


def clouds(reader, recipe=RECIPE, columns=None):
    return CloudDataset(reader, recipe, columns or Columns(targets=True))


@pytest.mark.parametrize("turn", range(5))
def test_targets_follow_their_points(samples, turn):
    """Red points shine, green ones do not: the intensity of a supervised voxel tells which target it must have."""
    batch = clouds(samples)[turn, 0]
    clear = batch.targets.feature.max(1).values > 0.97
    red = batch.targets.feature[clear].argmax(1) == 0
    assert clear.float().mean() > 0.7
    shining = batch.feats[batch.targets.voxel[clear], 1] > 0.5
    assert (red == shining).float().mean() > 0.97
    torch.testing.assert_close(batch.targets.feature.norm(dim=1), torch.ones(len(batch.targets.voxel)))


def test_a_sample_depends_on_seed_turn_and_index_alone(samples):
    one, two = clouds(samples), clouds(samples)
    two[7, 1]
    for name in ("coords", "feats", "voxel"):
        torch.testing.assert_close(getattr(one[3, 0], name), getattr(two[3, 0], name), rtol=0, atol=0)
    torch.testing.assert_close(one[3, 0].targets.feature, two[3, 0].targets.feature, rtol=0, atol=0)
    assert not torch.equal(one[3, 0].feats, one[4, 0].feats)
    other = clouds(samples, dataclasses.replace(RECIPE, seed=2))
    assert not torch.equal(one[3, 0].feats, other[3, 0].feats)


def test_targets_are_limited(samples):
    recipe = dataclasses.replace(RECIPE, pairs=PairSpec(targets=17))
    batch = clouds(samples, recipe)[0, 0]
    assert batch.targets.voxel.shape == (17,)
    assert batch.targets.feature.shape == (17, 3)
    assert (batch.targets.voxel.diff() > 0).all()


def test_batching_keeps_clouds_apart(samples):
    dataset = clouds(samples)
    parts = [dataset[0, 0], dataset[0, 1]]
    batch = collate(parts)
    assert batch.coords[:, 0].unique().tolist() == [0, 1]
    second = batch.targets.voxel >= len(parts[0].coords)
    torch.testing.assert_close(batch.feats[batch.targets.voxel[second]], parts[1].feats[parts[1].targets.voxel])
    torch.testing.assert_close(batch.targets.feature[second], parts[1].targets.feature)
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
    """Both clouds' voxels are there, and each supervised voxel still has the target of its own colour."""
    plain = dataclasses.replace(RECIPE, augment=dataclasses.replace(RECIPE.augment, mix=0.0))
    mixed = dataclasses.replace(RECIPE, augment=dataclasses.replace(RECIPE.augment, mix=1.0))
    alone, both = clouds(samples, plain)[2, 0], clouds(samples, mixed)[2, 0]
    assert len(both.targets.voxel) > 1.5 * len(alone.targets.voxel)
    assert len(both.coords) > 1.5 * len(alone.coords)
    clear = both.targets.feature.max(1).values > 0.97
    red = both.targets.feature[clear].argmax(1) == 0
    assert (red == (both.feats[both.targets.voxel[clear], 1] > 0.5)).float().mean() > 0.97
    torch.testing.assert_close(both.targets.feature.norm(dim=1), torch.ones(len(both.targets.voxel)))


def test_a_swap_takes_half_of_the_circle_from_another_cloud(samples):
    """No more voxels than a cloud has, each half of the circle from one of the two."""
    spec = dataclasses.replace(RECIPE.augment, rotate=False, flip=False, mix=0.0)
    plain = dataclasses.replace(RECIPE, augment=spec)
    halves = dataclasses.replace(RECIPE, augment=dataclasses.replace(spec, swap=1.0))
    alone, both = clouds(samples, plain)[2, 0], clouds(samples, halves)[2, 0]
    assert 0.6 < len(both.coords) / len(alone.coords) < 1.4
    assert len(both.voxel) < 1.4 * len(alone.voxel)
    assert 0 < len(both.targets.voxel) < 1.4 * len(alone.targets.voxel)


def test_a_sector_is_counted_from_x_towards_y():
    xyz = np.array([[1, 0.1, 5], [-0.1, 1, 0], [-1, -0.1, 0], [0.1, -1, 2]], np.float32)
    np.testing.assert_array_equal(in_sector(xyz, 0.0, 0.5), [True, True, False, False])
    np.testing.assert_array_equal(in_sector(xyz, 0.75, 0.5), [True, False, False, True])
    np.testing.assert_array_equal(in_sector(xyz, 0.75, 0.5), ~in_sector(xyz, 0.25, 0.5))


def test_the_confidence_of_a_voxel_is_the_mean_of_its_points(samples):
    class Doubtful:
        """The sample, whose points of the left half (shining) are half as sure."""

        def __len__(self):
            return 1

        def read(self, index, rng):
            cloud = samples.read(index, rng)
            confidence = np.where(cloud.intensity[cloud.supervised] > 0.5, 0.4, 0.8).astype(np.float32)
            feature, row = cloud.said.feature, cloud.said.row
            each = Compact(feature.code[row], feature.scale[row])
            said = dataclasses.replace(cloud.said, row=np.arange(len(row)), feature=each, confidence=confidence)
            return dataclasses.replace(cloud, said=said)

        def missing(self):
            return Counter()

    batch = clouds(Doubtful())[0, 0]
    shining = batch.feats[batch.targets.voxel, 1]
    assert batch.targets.confidence[shining > 0.7].max() < 0.5
    assert batch.targets.confidence[shining < 0.2].min() > 0.7


class Numbered:
    """Twenty points, one a voxel, whose intensity says their superpoint; point 7 has none, point 3 has a label."""

    def __init__(self, broken=()):
        self.broken = broken

    def __len__(self):
        return 3

    def read(self, index, rng):
        if index in self.broken:
            raise ImageError(f"image {index} is broken", "Record it again")
        xyz = np.stack([np.arange(20), np.zeros(20), np.zeros(20)], axis=1).astype(np.float32)
        superpoint, label = np.arange(20) // 5, np.full(20, UNLABELLED, np.int64)
        superpoint[7], label[3] = -1, index
        alone = np.zeros(20, np.int64)
        intensity = (superpoint.clip(0) / 10).astype(np.float32)
        return Cloud(xyz, intensity, alone, alone, np.array([3]), label=label, superpoint=superpoint)

    def missing(self):
        return Counter()


def test_labels_and_superpoints_stay_with_their_points_and_are_numbered_through():
    recipe = dataclasses.replace(RECIPE, augment=dataclasses.replace(RECIPE.augment, intensity=0, dropout=0.9))
    dataset = clouds(Numbered(), recipe, Columns())
    batch = collate([dataset[0, 0], dataset[0, 1]])
    assert batch.targets is None and batch.pairs is None
    assert len(batch.voxel) == len(batch.superpoint) == len(batch.label) < 40
    cloud, superpoint = batch.coords[batch.voxel, 0], batch.superpoint
    known = superpoint >= 0
    first = int(superpoint[cloud == 0].max()) + 1
    own = superpoint - first * cloud
    torch.testing.assert_close(batch.feats[batch.voxel[known], 1], own[known] / 10.0)
    for turn in range(20):  # most points are dropped, but never the only one with a label
        label = dataset[turn, 2].label
        assert label[label != UNLABELLED].tolist() == [2]


def test_a_broken_frame_is_replaced_and_told_whatever_the_method(samples):
    batch = clouds(Numbered(broken=(1,)), columns=Columns())[0, 1]
    assert batch.label[batch.label != UNLABELLED].tolist() == [2]
    assert batch.skipped == ("frame 1: image 1 is broken. Record it again.",)
    sample_path(samples.folder, 0).write_bytes(b"")
    batch = clouds(samples)[0, 0]
    assert len(batch.targets.voxel) and "000000.npz cannot be read" in batch.skipped[0]


def test_every_voxel_stays_in_the_batch_beside_those_with_a_target(samples):
    batch = clouds(samples)[0, 0]
    assert set(batch.voxel.tolist()) == set(range(len(batch.coords)))
    assert len(batch.targets.voxel) < len(batch.coords)
