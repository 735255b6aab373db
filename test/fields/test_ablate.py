"""A table over scenes: what is run, what is shared, what is written; the runs themselves are made up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from still_scene import small_scene

from ov3d_perception.errors import DatasetError, RecipeError
from ov3d_perception.evaluation.tables import Row, Table, load_table, to_markdown
from ov3d_perception.fields import ablate as tables
from ov3d_perception.fields.ablate import TEACHER, ablate
from ov3d_perception.fields.evaluate import FieldResult
from ov3d_perception.fields.recipe import FieldRecipe, changed, load_recipe
from ov3d_perception.fields.scene import Scene

SHIPPED = Path(__file__).parents[2] / "config" / "field" / "tables.yaml"
ROWS = (
    Row("w/o RDA loss", set={"losses.relevancy": 0}),
    Row("50% views", set={"images.views": 0.5}),
    Row("full model", paper={"mIoU": 86.2}),
)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    scene = small_scene(4, (16, 12))
    return [replace(scene, name=name) for name in ("desk", "shelf")]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """Runs that are made: the scene, and the folder whose reconstruction it uses. Desk is the better scene by 0.2."""
    made: list[tuple[str, Path]] = []

    def train(scene: Scene, recipe: FieldRecipe, out: Path, **options: object) -> FieldRecipe:
        made.append((scene.name, options["shared"]))  # type: ignore[arg-type]
        return recipe

    def evaluate(recipe: FieldRecipe, scene: Scene, encoder: object, pictures: Path) -> FieldResult:
        miou = 0.3 + 0.2 * (scene.name == "desk") + 0.1 * (recipe.losses.relevancy > 0)
        return FieldResult(scene.name, 1, 30.0, miou, 0.9, 0.7, {}, float("nan"))

    monkeypatch.setattr(tables, "open_models", lambda recipe: SimpleNamespace(encoder=None))
    monkeypatch.setattr(tables, "train", train)
    monkeypatch.setattr(tables, "evaluate", evaluate)
    return made


def test_rows_are_run_on_each_scene_once_and_averaged(
    scenes: list[Scene], runs: list[tuple[str, Path]], tmp_path: Path
) -> None:
    table = Table("T", ROWS)
    ablate(scenes, FieldRecipe(), table, tmp_path, ["full model"])
    summary = ablate(scenes, FieldRecipe(), table, tmp_path)
    assert [name for name, _ in runs] == ["desk", "shelf", "desk", "desk", "shelf", "shelf"]
    full, without, half = runs[0][1], runs[2][1], runs[3][1]
    assert full == without != half  # fewer views are another geometry
    assert summary["rows"]["full model"]["mIoU"]["mean"] == pytest.approx(0.5)
    assert summary["rows"]["w/o RDA loss"]["mIoU"]["values"] == pytest.approx([0.5, 0.3])
    assert TEACHER not in summary["rows"]["full model"]
    assert json.loads((tmp_path / "ablation.json").read_text())["scenes"] == ["desk", "shelf"]
    lines = (tmp_path / "ablation.md").read_text().splitlines()
    assert lines[0] == "T; percent, scenes desk, shelf, paper in brackets"
    assert lines[-1] == "|  | full model | 50.0 \u00b1 14.1 (86.2) | 70.0 \u00b1 0.0 | 30.0 \u00b1 0.0 |"
    assert to_markdown(summary).splitlines() == lines


def test_mistakes_are_named(scenes: list[Scene], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no row \['all'\].*full model"):
        ablate(scenes, FieldRecipe(), Table("T", ROWS), tmp_path, ["all"])
    with pytest.raises(RecipeError, match=r"Row 'x' of the table: recipe.losses has no field \['rda'\]"):
        ablate(scenes, FieldRecipe(), Table("T", (Row("x", set={"losses.rda": 0}),)), tmp_path)
    with pytest.raises(DatasetError, match="of one name: desk, desk"):
        ablate([scenes[0], scenes[0]], FieldRecipe(), Table("T", ROWS), tmp_path)
    with pytest.raises(DatasetError, match="masks to compare with in desk"):
        ablate([replace(scenes[0], masks={})], FieldRecipe(), Table("T", ROWS), tmp_path)


@pytest.mark.parametrize("name", ["table2", "table4", "quick"])
def test_shipped_rows_are_recipes_that_differ(name: str) -> None:
    base = load_recipe("config/field/small.yaml", [])
    rows = load_table(SHIPPED, name).rows
    assert len({json.dumps(changed(base, row.set).as_dict()) for row in rows}) == len(rows)
    assert rows[-1].name == "full model" and rows[-1].set == {}
