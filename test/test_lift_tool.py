"""``ov3d map from-images``: what a camera sees is found in the map where the LiDAR hit it, and nowhere else."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from colour_scene import ColourEncoder, walls_recipe

from ov3d_perception.errors import DatasetError, IdentityError, RecipeError
from ov3d_perception.language.bank import TextBank
from ov3d_perception.lift_tool import map_from_images
from ov3d_perception.map_tool import query_file
from ov3d_perception.mapping.query import TextQuery
from ov3d_perception.mapping.save_load import load_map
from ov3d_perception.recipes.specs import PairSpec, Recipe, SourceSpec, VocabularySpec
from ov3d_perception.types import EncoderIdentity


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setattr("ov3d_perception.lift_tool.load_encoder", lambda *_: ColourEncoder())
    return replace(walls_recipe(tmp_path, monkeypatch), pairs=PairSpec(occlusion=False, basis=0))


def test_the_map_answers_where_the_lidar_hit(recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both halves of the wall at x = 8; the image's left half is red, and left of the camera is y > 0."""
    path = tmp_path / "walls.ov3dmap"
    source = SourceSpec("walls", "", {"frames": 7, "blind": [3], "corrupt": [0]})
    with caplog.at_level(logging.WARNING):
        info = map_from_images(recipe, source, path, 0.8)
    assert "image 0 is broken" in caplog.text
    assert info.voxels == len(load_map(path)) > 100
    for word, side in (("red", 1), ("green", -1)):
        matches = query_file(path, TextQuery([word])).matches
        assert matches and matches[0].score > 0.9
        assert all(np.sign(match.centroid[1]) == side and abs(match.centroid[0] - 8) < 0.3 for match in matches)
    assert not query_file(path, TextQuery(["blue"])).matches


def test_fewer_frames_are_spread_over_the_drive(recipe: Recipe, tmp_path: Path) -> None:
    """Of frames 0 to 4 three are the first, the middle and the last; the others are broken and not read."""
    source = SourceSpec("walls", "", {"frames": 5, "corrupt": [1, 3]})
    some = map_from_images(recipe, source, tmp_path / "some.ov3dmap", 0.4, frames=3)
    whole = map_from_images(recipe, source, tmp_path / "whole.ov3dmap", 0.4)
    assert some.voxels == whole.voxels
    assert load_map(tmp_path / "some.ov3dmap").take(np.arange(5)).weight.max() <= 3


def test_what_is_missing_is_said(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "none.ov3dmap"
    with pytest.raises(DatasetError, match="No image of walls sees a point"):
        map_from_images(recipe, SourceSpec("walls", "", {"frames": 2, "blind": [0, 1]}), path)
    with pytest.raises(RecipeError, match="names no words"):
        map_from_images(replace(recipe, vocabulary=None), recipe.train, path)
    other = tmp_path / "other.npz"
    TextBank(["red", "green"], np.eye(2, 3, dtype=np.float32), EncoderIdentity("other", "test", 3)).save(other)
    assert recipe.vocabulary is not None
    words = VocabularySpec(recipe.vocabulary.labelset, str(other))
    with pytest.raises(IdentityError, match="belong to other/test/3, the teacher is colour/test/3"):
        map_from_images(replace(recipe, vocabulary=words), recipe.train, path)
    assert not path.exists()
