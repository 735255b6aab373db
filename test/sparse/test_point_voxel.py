"""Points to voxels and back against loops over points and voxels."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ov3d_perception.errors import PointCloudError
from ov3d_perception.sparse import Conv3d, Points, SparseTensor, quantize

STRIDES = (1, 2, 4)


def scene(seed: int = 0, count: int = 60, shuffled: bool = True) -> tuple[Points, SparseTensor]:
    """Points of two samples, negative positions among them, and features on their voxels, rows in any order."""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand((count, 3), generator=generator, dtype=torch.float64) * 9 - 5
    batch = torch.randint(0, 2, (count,), generator=generator)
    coords, _, _ = quantize(positions, 1.0, positions, batch)
    if shuffled:
        coords = coords[torch.randperm(len(coords), generator=generator)]
    x = SparseTensor(torch.randn((len(coords), 3), generator=generator, dtype=torch.float64), coords)
    return Points(positions, batch, x.manager), x


def at_stride(x: SparseTensor, stride: int) -> SparseTensor:
    """Random features on the coarser voxels."""
    while x.stride < stride:
        torch.manual_seed(stride)
        x = Conv3d(3, 3, 2, stride=2).double()(x)
    return x


def slow_trilinear(points: Points, x: SparseTensor) -> Tensor:
    """Every voxel weighs in with the product of three hats of half-width ``stride`` around its first voxel's middle."""
    rows = []
    for position, batch in zip(points.positions.tolist(), points.batch.tolist(), strict=True):
        total, weights = torch.zeros(3, dtype=torch.float64), 0.0
        for coords, feats in zip(x.coords.tolist(), x.feats, strict=True):
            hats = [max(0.0, 1 - abs(p - (c + 0.5)) / x.stride) for p, c in zip(position, coords[1:], strict=True)]
            weight = math.prod(hats) * (coords[0] == batch)
            total, weights = total + weight * feats, weights + weight
        rows.append(total / weights if weights else total)
    return torch.stack(rows)


def slow_mean(points: Points, feats: Tensor, x: SparseTensor) -> Tensor:
    means = []
    for coords in x.coords.tolist():
        inside = [
            feat
            for feat, position, batch in zip(feats, points.positions.tolist(), points.batch.tolist(), strict=True)
            if batch == coords[0] and all(c <= p < c + x.stride for p, c in zip(position, coords[1:], strict=True))
        ]
        means.append(sum(inside, torch.zeros(3, dtype=torch.float64)) / max(len(inside), 1))
    return torch.stack(means)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("seed", range(3))
def test_trilinear_equals_the_loop(stride: int, seed: int) -> None:
    points, x = scene(seed)
    coarse = at_stride(x, stride)
    torch.testing.assert_close(points.devoxelise(coarse), slow_trilinear(points, coarse))


def test_trilinear_by_hand() -> None:
    """Voxels 0 and 1 along x hold 10 and 20; their samples are at 0.5 and 1.5."""
    coords = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]])
    x = SparseTensor(torch.tensor([[10.0], [20.0]]), coords)
    positions = torch.tensor([[0.5, 0.5, 0.5], [0.75, 0.5, 0.5], [1.0, 0.2, 0.9], [1.9, 0.5, 0.5], [3.0, 0.5, 0.5]])
    points = Points(positions, torch.zeros(5, dtype=torch.int64), x.manager)
    torch.testing.assert_close(points.devoxelise(x)[:, 0], torch.tensor([10.0, 12.5, 15.0, 20.0, 0.0]))
    assert points.nearest(x)[:, 0].tolist() == [10, 10, 20, 20, 0]


@pytest.mark.parametrize("stride", STRIDES)
def test_voxels_as_points_have_the_references_weights(stride: int) -> None:
    """The release's formula: corners of floor(C / s), weights from the remainder, of existing corners alone."""
    _, x = scene(4)
    coarse = at_stride(x, stride)
    table = {tuple(c): f for c, f in zip(coarse.coords.tolist(), coarse.feats, strict=True)}
    expected = []
    for batch, *position in x.coords.tolist():
        low = [c // stride * stride for c in position]
        far = [(c - b) / stride for c, b in zip(position, low, strict=True)]
        total, weights = torch.zeros(3, dtype=torch.float64), 0.0
        for corner in [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]:
            voxel = (batch, *(b + stride * o for b, o in zip(low, corner, strict=True)))
            weight = math.prod(f if o else 1 - f for f, o in zip(far, corner, strict=True))
            if voxel in table:
                total, weights = total + weight * table[voxel], weights + weight
        expected.append(total / weights)
    points = Points.of_voxels(x)
    torch.testing.assert_close(points.devoxelise(coarse), torch.stack(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("stride", STRIDES)
def test_mean_and_nearest_equal_the_loop(stride: int) -> None:
    points, x = scene(1)
    coarse = at_stride(x, stride)
    feats = torch.randn(len(points), 3, dtype=torch.float64)
    voxels = points.voxelise(feats, stride)
    assert voxels.stride == stride and voxels.manager is x.manager
    torch.testing.assert_close(voxels.feats, slow_mean(points, feats, coarse))
    centres = (torch.floor(points.positions / stride) * stride).long()
    rows = {tuple(c): i for i, c in enumerate(coarse.coords.tolist())}
    cells = [rows[(b, *c)] for b, c in zip(points.batch.tolist(), centres.tolist(), strict=True)]
    assert torch.equal(points.nearest(coarse), coarse.feats[cells])


def test_points_in_no_voxel_and_voxels_without_points() -> None:
    coords = torch.tensor([[0, 0, 0, 0], [0, 5, 5, 5]])
    x = SparseTensor(torch.tensor([[1.0], [2.0]]), coords)
    positions = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9], [-7.5, 2.0, 2.0]])
    points = Points(positions, torch.zeros(3, dtype=torch.int64), x.manager)
    assert points.voxelise(torch.tensor([[4.0], [8.0], [16.0]]), 1).feats.tolist() == [[6.0], [0.0]]
    assert points.nearest(x).tolist() == [[1.0], [1.0], [0.0]]
    assert points.devoxelise(x)[2].tolist() == [0.0]


@pytest.mark.parametrize("stride", STRIDES)
def test_gradients(stride: int) -> None:
    points, x = scene(2, count=12)
    coarse = at_stride(x, stride)
    voxel_feats = coarse.feats.detach().requires_grad_()
    point_feats = torch.randn(len(points), 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: points.devoxelise(coarse.replace(f)), (voxel_feats,))
    assert torch.autograd.gradcheck(lambda f: points.nearest(coarse.replace(f)), (voxel_feats,))
    assert torch.autograd.gradcheck(lambda f: points.voxelise(f, stride).feats, (point_feats,))


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_constants_and_sums_are_kept(seed: int) -> None:
    """Interpolating a constant gives it back; a mean keeps the sum over points, weighted by the points a voxel has."""
    points, x = scene(seed)
    for stride in STRIDES:
        coarse = at_stride(x, stride)
        ones = points.devoxelise(coarse.replace(torch.ones_like(coarse.feats)))
        torch.testing.assert_close(ones, torch.ones_like(ones))
        feats = points.positions
        spread = points.nearest(points.voxelise(feats, stride))
        torch.testing.assert_close(spread.sum(0), feats.sum(0))


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_permutation_of_points(seed: int) -> None:
    points, x = scene(seed)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    permuted = Points(points.positions[order], points.batch[order], x.manager)
    coarse = at_stride(x, 2)
    torch.testing.assert_close(permuted.devoxelise(coarse), points.devoxelise(coarse)[order])
    feats = points.positions.sin()
    torch.testing.assert_close(permuted.voxelise(feats[order], 2).feats, points.voxelise(feats, 2).feats)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_samples_of_a_batch_do_not_see_each_other(seed: int) -> None:
    points, x = scene(seed)
    both = points.devoxelise(x)
    for sample in (0, 1):
        mine, theirs = points.batch == sample, x.coords[:, 0] == sample
        alone = SparseTensor(x.feats[theirs], x.coords[theirs])
        lone = Points(points.positions[mine], points.batch[mine], alone.manager)
        torch.testing.assert_close(lone.devoxelise(alone), both[mine])


def test_features_of_the_finest_voxels_pass_unchanged() -> None:
    _, x = scene()
    points = Points.of_voxels(x)
    assert points.devoxelise(x) is x.feats and points.nearest(x) is x.feats
    assert points.voxelise(x.feats, 1).feats is x.feats


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features(dtype: torch.dtype) -> None:
    points, x = scene()
    low = points.devoxelise(x.replace(x.feats.to(dtype)))
    assert low.dtype == dtype
    torch.testing.assert_close(low.double(), points.devoxelise(x), rtol=0.02, atol=0.02)


def test_no_points() -> None:
    _, x = scene()
    nobody = Points(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), x.manager)
    assert nobody.devoxelise(x).shape == (0, 3)
    assert nobody.voxelise(torch.zeros(0, 3), 1).feats.abs().sum() == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_impossible_positions(bad: float) -> None:
    _, x = scene()
    with pytest.raises(PointCloudError, match="larger voxel"):
        Points(torch.tensor([[0.0, bad, 0.0]]), torch.zeros(1, dtype=torch.int64), x.manager)


def test_voxels_of_another_tensor() -> None:
    points, _ = scene()
    _, other = scene()
    with pytest.raises(ValueError, match="another coordinate manager"):
        points.devoxelise(other)
