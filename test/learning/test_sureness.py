"""The share of what is in view that the teacher is sure of, on the tiny scene whose teacher knows colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from colour_scene import ColourEncoder, Walls, walls_recipe

from ov3d_perception.doctor.report import Severity
from ov3d_perception.errors import DatasetError, RecipeError
from ov3d_perception.evaluation.gate import GateSpec
from ov3d_perception.learning import sureness
from ov3d_perception.learning.sureness import check_teacher
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.types import Frame


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setattr(sureness, "load_encoder", lambda *_: ColourEncoder())
    monkeypatch.setattr(sureness, "cache_dir", lambda: tmp_path / "cache")
    return walls_recipe(tmp_path, monkeypatch)


def test_a_teacher_that_knows_its_place_is_good_and_says_what_it_sees(recipe: Recipe, tmp_path: Path) -> None:
    found = check_teacher(Walls(tmp_path, 4), recipe)
    assert found.severity is Severity.GOOD
    assert found.figures["share"] > 0.9
    assert sum(found.figures["of"].values()) == pytest.approx(found.figures["share"])
    seen = [name for name, share in found.figures["of"].items() if share > 0.1]
    assert seen and all(name in found.what for name in seen)


def test_the_severity_follows_the_share(recipe: Recipe, tmp_path: Path) -> None:
    """Nothing is surer than certain: with that asked for, nothing is sure."""
    found = check_teacher(Walls(tmp_path, 2), recipe, gate=replace(GateSpec(), sure_of=1.01))
    assert (found.severity, found.figures["share"]) == (Severity.ERROR, 0.0)
    assert found.why and found.do
    some = check_teacher(Walls(tmp_path, 2), recipe, gate=replace(GateSpec(), sure_of=1.01, sure=0.0))
    assert some.severity is Severity.WARNING


def test_what_cannot_be_asked_is_an_error(recipe: Recipe, tmp_path: Path) -> None:
    class Blind(Walls):
        def frame(self, index: int) -> Frame:
            return replace(super().frame(index), views=())

    with pytest.raises(DatasetError, match="No point"):
        check_teacher(Blind(tmp_path, 2), recipe)
    with pytest.raises(RecipeError, match="no words"):
        check_teacher(Walls(tmp_path, 2), replace(recipe, vocabulary=None))
