"""Quantised features and their directions."""

import numpy as np
import pytest
import torch

from ov3d_perception.lifting.compact import compact, principal_basis


def test_a_feature_survives_its_byte():
    features = torch.nn.functional.normalize(torch.randn(50, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    kept = compact(features)
    assert kept.code.dtype == np.int8 and kept.code.nbytes + kept.scale.nbytes == 50 * 66
    assert float(torch.cosine_similarity(kept.features(), features).min()) > 0.9998


def test_no_feature_and_a_zero_one():
    assert compact(torch.zeros(0, 4)).features().shape == (0, 4)
    torch.testing.assert_close(compact(torch.zeros(1, 4)).features(), torch.zeros(1, 4))


def test_sums_are_those_of_the_features():
    """A row may count for a target twice, or for two; a target may have none."""
    kept = compact(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)))
    row, target = np.array([5, 1, 1, 1, 0, 2]), np.array([3, 0, 0, 3, 1, 3])
    expected = torch.zeros(5, 8).index_add(0, torch.from_numpy(target), kept.features()[row])
    torch.testing.assert_close(kept.sums(row, target, 5), expected)
    nothing = np.zeros(0, np.int64)
    assert torch.equal(kept.sums(nothing, nothing, 3), torch.zeros(3, 8))


def test_directions_of_most_second_moment():
    axes = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))[0]
    maps = [(axes * torch.tensor([3.0, 2.0, 1e-3, 0.0, 0.0])) @ torch.randn(5, 300) for _ in range(3)]
    basis = principal_basis((one.view(5, 20, 15) for one in maps), 2)
    torch.testing.assert_close(basis @ basis.T, torch.eye(2), atol=1e-5, rtol=0)
    torch.testing.assert_close((basis @ axes[:, :2]).norm(dim=0), torch.ones(2), atol=1e-3, rtol=0)


def test_all_directions_are_those_of_the_encoder_itself():
    assert torch.equal(principal_basis([torch.ones(3, 2, 2)], 0), torch.eye(3))
    with pytest.raises(ValueError, match="no map"):
        principal_basis([], 2)
