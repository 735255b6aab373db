"""The same layers in MinkowskiEngine, where it is installed (its build takes minutes and needs OpenBLAS)."""

from __future__ import annotations

import collections
import collections.abc

import pytest
import torch
from torch import nn

from ov3d_perception.sparse import Conv3d, ConvTranspose3d, SparseTensor

collections.Sequence = collections.abc.Sequence  # type: ignore[attr-defined]  # MinkowskiEngine 0.5.4 expects it
ME = pytest.importorskip("MinkowskiEngine", reason="MinkowskiEngine is not installed (no wheels; built from source)")


@pytest.mark.parametrize(
    ("kernel_size", "stride", "dilation"), [(1, 1, 1), (3, 1, 1), (5, 1, 1), (3, 1, 2), (2, 2, 1), (3, 2, 1)]
)
def test_convolution(kernel_size: int, stride: int, dilation: int) -> None:
    coords = torch.randint(-8, 8, (300, 4)).unique(dim=0)
    coords[:, 0] = coords[:, 0].remainder(2)
    coords = coords.unique(dim=0)
    feats = torch.randn(len(coords), 6)
    theirs = ME.MinkowskiConvolution(
        6, 5, kernel_size=kernel_size, stride=stride, dilation=dilation, bias=True, dimension=3
    )
    ours = Conv3d(6, 5, kernel_size, stride, dilation, bias=True)
    ours.load_state_dict(theirs.state_dict())
    _compare(ours(SparseTensor(feats, coords)), theirs(ME.SparseTensor(feats, coords.int())))


def test_down_and_up() -> None:
    coords = torch.nn.functional.pad(torch.randint(-8, 8, (300, 3)).unique(dim=0), (1, 0))
    feats = torch.randn(len(coords), 6)
    theirs = nn.Sequential(
        ME.MinkowskiConvolution(6, 7, kernel_size=2, stride=2, dimension=3),
        ME.MinkowskiConvolutionTranspose(7, 5, kernel_size=2, stride=2, dimension=3),
    )
    ours = nn.Sequential(Conv3d(6, 7, 2, stride=2), ConvTranspose3d(7, 5, 2))
    ours.load_state_dict(theirs.state_dict())
    _compare(ours(SparseTensor(feats, coords)), theirs(ME.SparseTensor(feats, coords.int())))


def _compare(ours: SparseTensor, theirs: object) -> None:
    rows = {tuple(c): i for i, c in enumerate(theirs.C.tolist())}  # type: ignore[attr-defined]
    order = torch.tensor([rows[tuple(c)] for c in ours.coords.tolist()])
    assert len(rows) == len(ours)
    torch.testing.assert_close(ours.feats, theirs.F[order], rtol=1e-5, atol=1e-5)  # type: ignore[attr-defined]
