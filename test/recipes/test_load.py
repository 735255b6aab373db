"""Recipes from files: defaults, overrides, and complaints that name the field."""

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from ov3d_perception.datasets.registry import SOURCES
from ov3d_perception.errors import RecipeError
from ov3d_perception.language.dense import WAYS
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.networks.registry import build_network
from ov3d_perception.recipes.load import changed, load_recipe, phases_of, split_of
from ov3d_perception.recipes.method_specs import METHODS, KlSpec
from ov3d_perception.recipes.parse import from_dict
from ov3d_perception.recipes.specs import PassSpec, Recipe, SourceSpec, TeacherSpec

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
        ("method={name: clip2scene, form: mine}", r"recipe\.method\.form is 'mine'.*equation, release, soft"),
        ("method={name: clip2scene, tau: warm}", "recipe.method.tau"),
        ("method=kl", "recipe.method is 'kl', not a mapping"),
        ("network.arch=PointNet", "PointNet"),
        ("pairs.occlusion=3", "recipe.pairs.occlusion"),
        ("train.root=${SURELY_NOT_SET_ANYWHERE}", "SURELY_NOT_SET_ANYWHERE"),
        ("train=bag", "recipe.train"),
        ("teacher.size=[224, wide]", r"recipe\.teacher\.size\[1\] is 'wide'"),
        ("teacher.size=[1, 2, 3]", "recipe.teacher.size is .* not 2 values"),
        ("network.inputs=[ones, 1]", r"recipe\.network\.inputs\[1\] is 1, not a str"),
        ("optimiser.epoch=3", r"^\S*recipe\.yaml: .*Did you mean epochs\?"),
        ("method.name=openscenes", "Did you mean openscene"),
        ("seed", "seed"),
        ("seed=-1", "recipe.seed is -1, not 0 or more"),
        ("optimiser.epochs=0", "recipe.optimiser.epochs is 0, not 1 or more"),
        ("optimiser.batch=0", "recipe.optimiser.batch is 0"),
        ("validate_every=0", "recipe.validate_every is 0"),
        ("train.every=0", "recipe.train.every is 0"),
        ("network.voxel_size=0.0", "recipe.network.voxel_size is 0.0, not above 0"),
        ("network.keep=1.5", "recipe.network.keep is 1.5, not between 0 and 1"),
        ("network.voxel_size=.nan", "recipe.network.voxel_size is nan, not above 0"),
        ("finetune={splits: {'1%': {dataset: bag, root: a, every: -1}}}", "recipe.finetune.splits.every is -1"),
    ],
)
def test_mistakes_are_named(tmp_path, override, names):
    with pytest.raises(RecipeError, match=names):
        load_recipe(write(tmp_path, MINIMAL), [override])


def test_integers_of_a_tuple_become_its_numbers(tmp_path):
    scales = load_recipe(write(tmp_path, MINIMAL), ["teacher.scales=[1, 2]"]).teacher.scales
    assert scales == (1.0, 2.0) and all(isinstance(scale, float) for scale in scales)


def test_a_file_that_is_no_recipe_is_named(tmp_path):
    path = tmp_path / "recipe.yaml"
    for text, names in (("a: [", "not YAML"), ("- a\n", "not sections")):
        path.write_text(text)
        with pytest.raises(RecipeError, match=f"recipe.yaml: .*{names}"):
            load_recipe(path)
    path.write_bytes(b"\xff\xfen\x00")
    with pytest.raises(RecipeError, match=r"recipe.yaml is no text .*UTF-8"):
        load_recipe(path)


def test_missing_parts_and_files_are_named(tmp_path):
    with pytest.raises(RecipeError, match="teacher"):
        load_recipe(write(tmp_path, {k: v for k, v in MINIMAL.items() if k != "teacher"}))
    with pytest.raises(RecipeError, match="nowhere"):
        load_recipe(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    "path",
    sorted([*FOLDER.glob("openscene_*.yaml"), *FOLDER.glob("clip2scene_[!t]*.yaml")]),
    ids=lambda path: path.stem,
)
def test_shipped_recipes_load(path, monkeypatch):
    for name in ("SEMANTICKITTI", "CLIP_VITB16", "COCO_STUFF_BANK", "STREET_WORDS", "NUSCENES"):
        monkeypatch.setenv(name, name.lower())
    recipe = load_recipe(path)
    assert recipe.name == path.stem and type(recipe.method) is METHODS[recipe.method.name]
    assert {recipe.train.dataset, recipe.validation.dataset if recipe.validation else "bag"} <= set(SOURCES)
    if recipe.vocabulary is not None:
        labels = LabelSet.load(recipe.vocabulary.labelset)
        assert all(labels.prompts[name] for name in labels.names)
    network = build_network(recipe.network.arch, len(recipe.network.inputs), 8, recipe.network.width)
    assert sum(parameter.numel() for parameter in network.parameters()) > 10_000


def test_the_variables_of_the_recipes_are_explained():
    wanted = {name for path in FOLDER.glob("*.yaml") for name in re.findall(r"\$\{(\w+)\}", path.read_text())}
    rows = re.findall(r"^\| (`[A-Z0-9_`, ]+`) \|", (FOLDER.parents[1] / "docs" / "training.md").read_text(), re.M)
    assert wanted and wanted <= {name.strip("`") for row in rows for name in row.split(", ")}


def test_the_recipe_for_a_bag_names_words_of_its_teacher():
    """Without words the checkpoint could neither label nor be evaluated."""
    recipe = load_recipe(FOLDER / "ggsd_bag.yaml")
    assert recipe.vocabulary is not None and LabelSet.load(recipe.vocabulary.labelset).names
    assert recipe.vocabulary.text == f"{recipe.teacher.model},{recipe.teacher.pretrained}"


def test_a_recipe_with_other_values_is_checked_too(tmp_path):
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert changed(recipe, {}) == recipe
    other = changed(recipe, {"method.name": "clip2scene", "seed": 3})
    assert (other.method.name, other.seed, other.train) == ("clip2scene", 3, recipe.train)
    with pytest.raises(RecipeError, match="colour"):
        changed(recipe, {"method.colour": 1})


def test_splits_are_sources(tmp_path):
    data = {**MINIMAL, "finetune": {"splits": {"1%": {"dataset": "bag", "root": "x", "every": 100}}}}
    recipe = load_recipe(write(tmp_path, data))
    assert split_of(recipe, "1%") == SourceSpec("bag", "x", every=100)
    with pytest.raises(RecipeError, match="are 1%"):
        split_of(recipe, "10%")
    with pytest.raises(RecipeError, match=r"splits.*1%.*rot"):
        split_of(load_recipe(write(tmp_path, data), ["finetune.splits={1%: {dataset: bag, rot: x}}"]), "1%")


def test_another_method_keeps_the_fields_that_both_have(tmp_path):
    recipe = changed(
        load_recipe(write(tmp_path, MINIMAL)), {"method.name": "clip2scene", "method.sweeps": 5, "method.tau": 0.1}
    )
    assert changed(recipe, {"method.name": "kl"}).method == KlSpec(sweeps=5)


def test_phases_are_recipes_of_their_own(tmp_path):
    recipe = load_recipe(write(tmp_path, {**MINIMAL, "phases": [{"optimiser.epochs": 70}, {"optimiser.epochs": 30}]}))
    assert [phase.optimiser.epochs for phase in phases_of(recipe)] == [70, 30]
    assert from_dict(recipe.to_dict()) == recipe
    assert phases_of(load_recipe(write(tmp_path, MINIMAL))) == (load_recipe(write(tmp_path, MINIMAL)),)
    with pytest.raises(RecipeError, match=r"phase 2: .*colour"):
        load_recipe(write(tmp_path, {**MINIMAL, "phases": [{}, {"method.colour": 1}]}))
    with pytest.raises(RecipeError, match=r"teacher\.online has no effect"):
        load_recipe(write(tmp_path, {**MINIMAL, "phases": [{"teacher.online": True}]}))


def test_the_ways_of_attending_that_a_recipe_may_name_are_those_that_there_are():
    assert get_args(get_type_hints(PassSpec)["way"]) == tuple(WAYS)
