"""Orders by counting against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.geometry.voxels import HALF, pack
from ov3d_perception.mapping.sorting import argsort_counting, argsort_voxel_keys


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 200), st.integers(1, 62))
def test_ascending_is_stable(seed: int, count: int, bits: int) -> None:
    keys = np.random.default_rng(seed).integers(0, 2**bits, count)
    np.testing.assert_array_equal(argsort_counting(keys), np.argsort(keys, kind="stable"))


@pytest.mark.parametrize("reach", [1, 3, 400, HALF])
def test_key_order(reach: int) -> None:
    """Also of keys all over the space that there is; equal ones stay as they stand."""
    coordinates = np.random.default_rng(reach).integers(-reach, reach, (3000, 3))
    keys = pack(np.concatenate([coordinates, coordinates[:500]]))
    np.testing.assert_array_equal(argsort_voxel_keys(keys), np.argsort(keys, kind="stable"))
    assert len(argsort_voxel_keys(keys[:0])) == 0
