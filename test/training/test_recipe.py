"""Recipes: defaults, overrides, and complaints that name the field."""

from pathlib import Path

import pytest
import yaml

from ov3d_perception.errors import DatasetError
from ov3d_perception.training.recipe import Recipe, SourceSpec, TeacherSpec, from_dict, load_recipe

MINIMAL = {
    "name": "r",
    "train": {"dataset": "bag", "root": "drive"},
    "teacher": {"model": "ViT-B-16", "size": [32, 64]},
}
FOLDER = Path(__file__).parents[2] / "config" / "train"


def write(tmp_path, data):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_minimal_recipe_takes_the_defaults(tmp_path):
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert recipe == Recipe("r", SourceSpec("bag", "drive"), TeacherSpec("ViT-B-16", size=(32, 64)))


def test_round_trip_through_plain_data(tmp_path):
    recipe = load_recipe(write(tmp_path, MINIMAL), ["pairs.sweeps=3", "network.inputs=[ones, height]"])
    assert recipe.pairs.sweeps == 3
    assert recipe.network.inputs == ("ones", "height")
    assert from_dict(recipe.to_dict()) == recipe


def test_environment_variables_are_filled_in(tmp_path, monkeypatch):
    monkeypatch.setenv("DRIVES", "/drives")
    recipe = load_recipe(write(tmp_path, MINIMAL), ["train.root=${DRIVES}/a"])
    assert recipe.train.root == "/drives/a"


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("optimiser.lr=1", "lr"),
        ("optimiser.epochs=many", "recipe.optimiser.epochs"),
        ("optimiser.schedule=cosine", "cosine"),
        ("optimiser.precision=fp8", "fp8"),
        ("network.arch=PointNet", "PointNet"),
        ("pairs.occlusion=3", "recipe.pairs.occlusion"),
        ("train.root=${SURELY_NOT_SET_ANYWHERE}", "SURELY_NOT_SET_ANYWHERE"),
        ("train=bag", "recipe.train"),
        ("seed", "seed"),
    ],
)
def test_mistakes_are_named(tmp_path, override, names):
    with pytest.raises(DatasetError, match=names):
        load_recipe(write(tmp_path, MINIMAL), [override])


def test_missing_parts_and_files_are_named(tmp_path):
    with pytest.raises(DatasetError, match="teacher"):
        load_recipe(write(tmp_path, {k: v for k, v in MINIMAL.items() if k != "teacher"}))
    with pytest.raises(DatasetError, match="nowhere"):
        load_recipe(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("openscene_*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_load(path, monkeypatch):
    for name in ("SEMANTICKITTI", "CLIP_VITB16", "COCO_STUFF_BANK"):
        monkeypatch.setenv(name, name.lower())
    assert load_recipe(path).name == path.stem
