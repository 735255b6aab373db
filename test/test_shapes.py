"""The annotations of arrays in the package are verified while its tests run (conftest.py)."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from ov3d_perception.geometry import voxels
from ov3d_perception.geometry.poses import invert, transform
from ov3d_perception.types import Scan

ONE = np.zeros((1, 3), np.float32)


@pytest.mark.parametrize("wrong", [np.eye(3), np.eye(4, dtype=np.float32), np.eye(4).tolist()])
def test_an_argument_of_another_shape_or_type_is_refused(wrong: np.ndarray) -> None:
    assert invert(np.eye(4)).shape == (4, 4)
    with pytest.raises(TypeCheckError, match="parameter 'T'"):
        invert(wrong)


def test_axes_of_one_name_are_equally_long() -> None:
    Scan(ONE, np.zeros(1, np.float32))
    with pytest.raises(TypeCheckError, match="parameter 'intensity'"):
        Scan(ONE, np.zeros(2, np.float32))


def test_a_result_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert voxels.voxel_coordinates(ONE, 0.1).tolist() == [[0, 0, 0]]
    monkeypatch.setattr(voxels.np, "floor", lambda xyz: xyz[:, :2])
    with pytest.raises(TypeCheckError, match="return value"):
        voxels.voxel_coordinates(ONE, 0.1)


@pytest.mark.usefixtures("shapes_unchecked")
def test_a_test_may_see_what_the_package_says_itself() -> None:
    with pytest.raises(ValueError, match="mismatch"):
        transform(np.eye(4), np.zeros((2, 5), np.float32))
