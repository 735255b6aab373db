"""Voxels of a map as examples."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.errors import MapError
from ov3d_perception.mapping.place import Place, examples_at
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import EncoderIdentity

IDENTITY = EncoderIdentity("test", "none", 6)


@pytest.fixture
def row() -> SemanticMap:
    """Twenty voxels along x, 0.5 m apart; those below 5 m have one feature, the others another."""
    semantic_map = SemanticMap(0.1, np.eye(4, 6, dtype=np.float32), IDENTITY)
    centres = np.array([[0.5 * i + 0.05, 0.05, 0.05] for i in range(20)], np.float32)
    features = np.eye(4, dtype=np.float32)[(centres[:, 0] > 5).astype(int)]
    semantic_map.integrate(centres, features, 1)
    return semantic_map


def test_a_ball_its_inside_and_what_is_clear_of_it(row: SemanticMap) -> None:
    here = examples_at(row, Place((1.05, 0.05, 0.05), 1.2))
    assert here.inside.shape == (5, 6) and here.outside.shape == (20 - 7, 6)  # two more reach to 2.4 m
    np.testing.assert_allclose(here.inside, np.tile(np.eye(6)[0], (5, 1)), atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(here.outside, axis=1), 1.0, atol=1e-5)
    assert np.sum(here.outside[:, 1] > 0.9) == 10


def test_a_box(row: SemanticMap) -> None:
    here = examples_at(row, Place((1.05, 0.05, 0.05), size=(2.2, 1.0, 1.0)))
    assert len(here.inside) == 5
    assert "2.2x1x1 m" in str(Place((1.05, 0.05, 0.05), size=(2.2, 1.0, 1.0)))


@pytest.mark.parametrize(
    "place", [Place((50.0, 0.0, 0.0), 1.0), Place((1.0, 0.0, 0.0), 0.0), Place((1.0, 0.0, 0.0), size=(1.0, -1.0, 1.0))]
)
def test_a_place_that_holds_nothing(row: SemanticMap, place: Place) -> None:
    with pytest.raises(MapError, match=r"voxels are at|holds nothing"):
        examples_at(row, place)
