"""Sampling at pixels: hand-computed places."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from ov3d_perception.language.sample import sample_features


def test_patch_centres_give_the_patches_themselves():
    dense = functional.normalize(torch.randn(5, 3, 4), dim=0)
    # 48 x 96 pixels, patches of 16 x 24: the centre of patch (1, 2) is at u = 2.5 * 24 - 0.5, v = 1.5 * 16 - 0.5
    rows, columns = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    uv = torch.stack([(columns + 0.5) * 24 - 0.5, (rows + 0.5) * 16 - 0.5], -1).reshape(-1, 2)
    torch.testing.assert_close(sample_features(dense, uv, (48, 96)), dense.flatten(1).T)


def test_halfway_between_two_patches_is_their_normalised_mean():
    dense = torch.zeros(2, 1, 2)
    dense[0, 0, 0] = dense[1, 0, 1] = 1
    out = sample_features(dense, torch.tensor([[7.5, 3.5]]), (8, 16))  # patches of 8: the border is at u = 7.5
    torch.testing.assert_close(out, torch.full((1, 2), 0.5**0.5))


def test_a_quarter_of_the_way():
    dense = torch.zeros(2, 1, 2)
    dense[0, 0, 0] = dense[1, 0, 1] = 1
    out = sample_features(dense, torch.tensor([[5.5, 0.0]]), (8, 16))  # centres at 3.5 and 11.5
    torch.testing.assert_close(out, functional.normalize(torch.tensor([[0.75, 0.25]]), dim=1))


def test_corners_take_the_nearest_patch():
    dense = functional.normalize(torch.randn(3, 2, 2), dim=0)
    corners = torch.tensor([[-0.5, -0.5], [31.5, -0.5], [-0.5, 15.5], [31.5, 15.5]])
    torch.testing.assert_close(sample_features(dense, corners, (16, 32)), dense.flatten(1).T)


@given(st.floats(-0.5, 63.5), st.floats(-0.5, 31.5))
def test_unit_length_everywhere(u, v):
    dense = functional.normalize(torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(0)), dim=0)
    out = sample_features(dense, torch.tensor([[u, v]], dtype=torch.float32), (32, 64))
    assert float(out.norm()) == pytest.approx(1, abs=1e-5)


def test_no_pixels_give_no_rows():
    assert sample_features(torch.randn(6, 2, 2), torch.zeros(0, 2), (8, 8)).shape == (0, 6)
