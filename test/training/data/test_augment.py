"""Augmentations keep what the pairs rely on: order, number, rigid shape up to scale."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from ov3d_perception.recipes.specs import AugmentSpec
from ov3d_perception.training.data.augment import augment, in_wedge

STILL = AugmentSpec(rotate=False, flip=False, scale=0, jitter=0, translate=0, dropout=0, intensity=0)


def cloud(count=50):
    rng = np.random.default_rng(7)
    return rng.normal(size=(count, 3), scale=10).astype(np.float32), rng.random(count).astype(np.float32)


def test_all_off_changes_nothing():
    xyz, intensity = cloud()
    moved, strength, keep = augment(xyz, intensity, STILL, np.random.default_rng(0))
    np.testing.assert_array_equal(moved, xyz)
    np.testing.assert_array_equal(strength, intensity)
    assert keep.all()


@given(st.integers(0, 1000))
def test_shape_survives_up_to_one_scale_and_up_stays_up(seed):
    xyz, intensity = cloud()
    spec = AugmentSpec(jitter=0)
    moved, strength, _ = augment(xyz, intensity, spec, np.random.default_rng(seed))
    ratio = pdist(moved.astype(float)) / pdist(xyz.astype(float))
    assert ratio.max() - ratio.min() < 1e-4
    assert 1 - spec.scale <= ratio.mean() <= 1 + spec.scale
    heights = np.diff(moved[:, 2]) / np.diff(xyz[:, 2])
    np.testing.assert_allclose(heights, ratio.mean(), rtol=1e-3)
    assert moved.dtype == strength.dtype == np.float32
    assert strength.min() >= 0
    assert strength.max() <= 1


def test_a_flip_mirrors():
    xyz, intensity = cloud()
    spec = AugmentSpec(rotate=False, flip=True, scale=0, jitter=0, translate=0, dropout=0, intensity=0)
    signs = {
        tuple(np.sign(augment(xyz, intensity, spec, np.random.default_rng(seed))[0][0] * xyz[0]).tolist())
        for seed in range(40)
    }
    assert signs == {(1, 1, 1), (1, -1, 1), (-1, 1, 1), (-1, -1, 1)}


def test_dropout_stays_within_its_limit():
    xyz, intensity = cloud(5000)
    spec = AugmentSpec(dropout=0.3)
    shares = [1 - augment(xyz, intensity, spec, np.random.default_rng(seed))[2].mean() for seed in range(60)]
    assert max(shares) < 0.33
    assert np.mean(shares) == pytest.approx(0.15, abs=0.04)


def test_same_generator_same_result():
    xyz, intensity = cloud()
    one, two = (augment(xyz, intensity, AugmentSpec(), np.random.default_rng(3)) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@given(st.integers(0, 100), st.floats(0.2, 0.8))
def test_a_wedge_keeps_one_connected_part_of_the_circle(seed, share):
    angle = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    xyz = np.column_stack([9 * np.cos(angle), 9 * np.sin(angle), 0 * angle]).astype(np.float32)
    keep = in_wedge(xyz, np.arange(1000), share, np.random.default_rng(seed))
    assert keep.mean() == pytest.approx(share, abs=0.002)
    assert np.count_nonzero(keep != np.roll(keep, 1)) == 2


def test_a_wedge_turns_to_where_the_taught_points_are():
    angle = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    xyz = np.column_stack([9 * np.cos(angle), 9 * np.sin(angle), 0 * angle]).astype(np.float32)
    supervised = np.flatnonzero(np.abs(angle) < 0.5)
    for seed in range(30):
        keep = in_wedge(xyz, supervised, 0.1, np.random.default_rng(seed))
        assert np.abs(angle[keep]).max() < 0.5 + 0.1 * 2 * np.pi / 2 + 0.02
        assert keep[supervised].any()


def test_the_response_is_a_power_between_the_inverse_and_the_limit() -> None:
    xyz, intensity = cloud(200)
    found = []
    for seed in range(60):
        strength = augment(xyz, intensity, replace(STILL, response=1.5), np.random.default_rng(seed))[1]
        power = np.log(strength) / np.log(intensity)
        np.testing.assert_allclose(power, power[0], rtol=1e-3)
        found.append(float(power[0]))
    assert 0.4 <= min(found) < 0.5 and 2.0 < max(found) <= 2.5
    assert 0.35 < np.mean(np.array(found) < 1) < 0.65, "as often one way as the other"


def test_a_blind_cloud_has_no_intensities_as_often_as_was_asked():
    xyz, intensity = cloud()
    before = intensity.copy()
    strengths = [augment(xyz, intensity, replace(STILL, blind=0.25), np.random.default_rng(n))[1] for n in range(400)]
    blind = [not strength.any() for strength in strengths]
    assert 0.18 < np.mean(blind) < 0.32
    assert all(np.array_equal(strength, before) for strength, none in zip(strengths, blind, strict=True) if not none)
    np.testing.assert_array_equal(intensity, before)
