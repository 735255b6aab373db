"""Pooling against loops over voxels and kernel offsets."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ov3d_perception.errors import BackendError
from ov3d_perception.sparse import GlobalPool, Pool3d, SparseTensor
from ov3d_perception.sparse.backends.minkowski import load_library

MODES = ("sum", "average", "max")
KINDS = [(3, 1, 1), (2, 2, 1), (3, 2, 1), (3, 3, 1), (5, 3, 1), (3, 1, 2), (2, 1, 1), (1, 2, 1), (1, 1, 1)]
REDUCE = {"sum": lambda v: v.sum(0), "average": lambda v: v.mean(0), "max": lambda v: v.amax(0)}


def tensor(seed: int = 0, count: int = 80) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(-5, 5, (count, 4), generator=generator)
    coords[:, 0] = coords[:, 0].remainder(2)
    coords = coords.unique(dim=0)
    coords = coords[torch.randperm(len(coords), generator=generator)]
    return SparseTensor(torch.randn(len(coords), 3, generator=generator), coords)


def slow(x: SparseTensor, mode: str, kernel_size: int, stride: int, dilation: int) -> dict[tuple[int, ...], Tensor]:
    """Features of the output voxels by their coordinates."""
    table = {tuple(c): f for c, f in zip(x.coords.tolist(), x.feats, strict=True)}
    out_stride = x.stride * stride
    centred = kernel_size % 2 and kernel_size != stride
    reach = range(-(kernel_size // 2), kernel_size // 2 + 1) if centred else range(kernel_size)
    result = {}
    for b, *corner in {(b, *(c // out_stride * out_stride for c in p)) for b, *p in table}:
        steps = [tuple(c + o * dilation * x.stride for c, o in zip(corner, offset, strict=True))
                 for offset in product(reach, repeat=3)]  # fmt: skip
        under = [table[(b, *step)] for step in steps if (b, *step) in table]
        result[(b, *corner)] = REDUCE[mode](torch.stack(under)) if under else torch.zeros(3)
    return result


def check(out: SparseTensor, expected: dict[tuple[int, ...], Tensor]) -> None:
    coords = [tuple(c) for c in out.coords.tolist()]
    assert len(coords) == len(expected) and set(coords) == set(expected)
    torch.testing.assert_close(out.feats, torch.stack([expected[c] for c in coords]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kernel_size", "stride", "dilation"), KINDS)
def test_equals_the_loop(mode: str, kernel_size: int, stride: int, dilation: int) -> None:
    x = tensor()
    out = Pool3d(mode, kernel_size, stride, dilation)(x)
    assert out.stride == stride and out.manager is x.manager
    check(out, slow(x, mode, kernel_size, stride, dilation))


@pytest.mark.parametrize("mode", MODES)
def test_second_level(mode: str) -> None:
    halved = Pool3d("average", 2, 2)(tensor())
    check(Pool3d(mode, 2, 2)(halved), slow(halved, mode, 2, 2, 1))


def test_average_divides_by_the_voxels_that_there_are() -> None:
    x = SparseTensor(torch.tensor([[3.0], [6.0], [-1.0]]), torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1], [0, -1, 0, 0]]))
    out = Pool3d("average", 2, 2)(x)
    assert dict(zip(map(tuple, out.coords.tolist()), out.feats[:, 0].tolist(), strict=True)) == {
        (0, 0, 0, 0): 4.5,
        (0, -2, 0, 0): -1.0,
    }


@pytest.mark.parametrize("mode", MODES)
def test_global_pooling(mode: str) -> None:
    x = tensor()
    out = GlobalPool(mode)(x)
    expected = torch.stack([REDUCE[mode](x.feats[x.coords[:, 0] == sample]) for sample in (0, 1)])
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("mode", MODES)
def test_global_pooling_of_a_sample_without_voxels(mode: str) -> None:
    x = SparseTensor(torch.tensor([[-2.0]]), torch.tensor([[1, 0, 0, 0]]))
    assert GlobalPool(mode)(x).tolist() == [[0.0], [-2.0]]
    nothing = SparseTensor(torch.zeros(0, 3), torch.zeros(0, 4, dtype=torch.int64))
    assert GlobalPool(mode)(nothing).shape == (0, 3)


@pytest.mark.parametrize("mode", MODES)
def test_gradients(mode: str) -> None:
    x = tensor(count=12)
    feats = x.feats.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda f: Pool3d(mode, 3, 2)(x.replace(f)).feats, (feats,))
    assert torch.autograd.gradcheck(lambda f: GlobalPool(mode)(x.replace(f)), (feats,))


@given(st.integers(0, 1000), st.sampled_from(MODES))
@settings(max_examples=20)
def test_permutation_of_rows(seed: int, mode: str) -> None:
    x = tensor(seed)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    permuted = SparseTensor(x.feats[order], x.coords[order])
    torch.testing.assert_close(Pool3d(mode, 3)(permuted).feats, Pool3d(mode, 3)(x).feats[order])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kernel_size", "stride", "dilation"), KINDS)
def test_equals_minkowski_engine(mode: str, kernel_size: int, stride: int, dilation: int) -> None:
    if (mode, kernel_size, stride) == ("max", 1, 2):
        pytest.skip("the lowest float there, zero here")
    layer = {"sum": "MinkowskiSumPooling", "average": "MinkowskiAvgPooling", "max": "MinkowskiMaxPooling"}[mode]
    engine, x = minkowski_engine(), tensor(count=400)
    theirs = getattr(engine, layer)(kernel_size=kernel_size, stride=stride, dilation=dilation, dimension=3)(
        engine.SparseTensor(x.feats, x.coords.int())
    )
    expected = {tuple(c): f for c, f in zip(theirs.C.tolist(), theirs.F, strict=True)}
    check(Pool3d(mode, kernel_size, stride, dilation)(x), expected)


@pytest.mark.parametrize("mode", MODES)
def test_global_pooling_equals_minkowski_engine(mode: str) -> None:
    layer = {"sum": "GlobalSumPooling", "average": "GlobalAvgPooling", "max": "GlobalMaxPooling"}[mode]
    engine, x = minkowski_engine(), tensor()
    theirs = getattr(engine, f"Minkowski{layer}")()(engine.SparseTensor(x.feats, x.coords.int()))
    torch.testing.assert_close(GlobalPool(mode)(x)[theirs.C[:, 0].long()], theirs.F)


def minkowski_engine() -> Any:
    try:
        return load_library()
    except BackendError as error:
        pytest.skip(str(error))


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="known are sum, average, max"):
        Pool3d("median", 3)  # type: ignore[arg-type]
