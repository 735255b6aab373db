"""Recipes: defaults, overrides, and complaints that name the field."""

from pathlib import Path

import pytest
import yaml

from ov3d_perception.errors import DatasetError
from ov3d_perception.recipes.specs import Recipe, SourceSpec, TeacherSpec, changed, from_dict, load_recipe, split_of

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
        ("optimiser.schedule=saw", "saw"),
        ("optimiser.precision=fp8", "fp8"),
        ("optimiser.algorithm=lion", "lion"),
        ("method.name=guess", "guess"),
        ("method.form=mine", "mine"),
        ("method.tau=warm", "recipe.method.tau"),
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


@pytest.mark.parametrize(
    "path",
    sorted([*FOLDER.glob("openscene_*.yaml"), *FOLDER.glob("clip2scene_[!t]*.yaml")]),
    ids=lambda path: path.stem,
)
def test_shipped_recipes_load(path, monkeypatch):
    for name in ("SEMANTICKITTI", "CLIP_VITB16", "COCO_STUFF_BANK", "NUSCENES"):
        monkeypatch.setenv(name, name.lower())
    assert load_recipe(path).name == path.stem


def test_a_recipe_with_other_values_is_checked_too(tmp_path):
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert changed(recipe, {}) == recipe
    other = changed(recipe, {"method.name": "clip2scene", "seed": 3})
    assert (other.method.name, other.seed, other.train) == ("clip2scene", 3, recipe.train)
    with pytest.raises(DatasetError, match="colour"):
        changed(recipe, {"method.colour": 1})


def test_splits_are_sources(tmp_path):
    data = {**MINIMAL, "finetune": {"splits": {"1%": {"dataset": "bag", "root": "x", "every": 100}}}}
    recipe = load_recipe(write(tmp_path, data))
    assert split_of(recipe, "1%") == SourceSpec("bag", "x", every=100)
    with pytest.raises(DatasetError, match="are 1%"):
        split_of(recipe, "10%")
    with pytest.raises(DatasetError, match=r"splits\.1%"):
        split_of(load_recipe(write(tmp_path, data), ["finetune.splits={1%: {dataset: bag, rot: x}}"]), "1%")
