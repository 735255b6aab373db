"""An option that the method does not read is named, and so is the method."""

import pytest
import yaml

from ov3d_perception.errors import RecipeError
from ov3d_perception.recipes.load import changed, load_recipe
from ov3d_perception.recipes.specs import Recipe, SourceSpec, TeacherSpec
from ov3d_perception.recipes.unused_options import check_options, unused_options

RECIPE = Recipe("r", SourceSpec("bag", "drive"), TeacherSpec("ViT-B-16"))


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("clip2scene", "pairs.sweeps", 3),
        ("kl", "pairs.view_window", 2),
        ("slidr", "augment.mix", 0.5),
        ("kl", "augment.swap", 0.5),
        ("openscene", "teacher.online", True),
        ("openscene", "augment.image_flip", True),
        ("openscene", "augment.image_crop", 0.5),
        ("clip2scene", "augment.image_flip", True),
    ],
)
def test_an_option_of_another_method_is_an_error(tmp_path, method, option, value):
    assert set(unused_options(changed(RECIPE, {"method.name": method, option: value}))) >= {option}
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump({"name": "r", "train": {"dataset": "bag", "root": "drive"}, "teacher": {"model": "m"}})
    )
    with pytest.raises(RecipeError, match=rf"recipe.yaml: {option} has no effect: .*({method}|online)"):
        load_recipe(path, [f"method.name={method}", f"{option}={value}"])


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("ppkt", "agreement", 0.3),
        ("openscene", "tau", 0.1),
        ("openscene", "sweeps", 5),
        ("openscene", "denoise", 0.1),
        ("clip2scene", "samples", 10),
        ("kl", "form", "soft"),
        ("ppkt", "prompts", "street"),
        ("slidr", "balance", 0.5),
    ],
)
def test_a_method_has_no_fields_of_another(method, option, value):
    with pytest.raises(RecipeError, match=rf"recipe.method has no field \['{option}'\].*Its fields are \[.*'name'"):
        changed(RECIPE, {"method.name": method, f"method.{option}": value})


def test_options_of_the_schedule_and_of_online_images():
    cosine = {"optimiser.schedule": "cosine", "optimiser.warmup": 0.3}
    assert list(unused_options(changed(RECIPE, cosine))) == ["optimiser.warmup"]
    assert unused_options(changed(RECIPE, {"optimiser.warmup": 0.3})) == {}
    online = changed(RECIPE, {"method.name": "clip2scene", "teacher.online": True, "augment.image_flip": True})
    assert unused_options(online) == {}
    assert set(unused_options(changed(online, {"teacher.scales": [1, 2], "teacher.flip": True}))) == {
        "teacher.scales",
        "teacher.flip",
    }


def test_passes_say_otherwise_what_a_single_look_says():
    passes = {"teacher.passes": [{"height": 336, "way": "naclip"}]}
    check_options(changed(RECIPE, passes))
    for option, value in {"size": [24, 32], "scales": [1.0, 2.0], "key_smoothing": 20.0}.items():
        with pytest.raises(RecipeError, match=rf"teacher.{option} has no effect: teacher.passes"):
            check_options(changed(RECIPE, passes | {f"teacher.{option}": value}))


@pytest.mark.parametrize("method", ["openscene", "ggsd"])
def test_a_head_is_held_to_the_directions_of_a_basis_alone(method):
    held = {"method.name": method, "method.held": True}
    assert "method.held" not in unused_options(changed(RECIPE, held))
    assert "pairs.basis is 0" in unused_options(changed(RECIPE, {**held, "pairs.basis": 0}))["method.held"]


def test_options_that_the_method_reads_pass():
    openscene = {
        "pairs.sweeps": 3,
        "pairs.view_window": 2,
        "augment.mix": 0.5,
        "augment.swap": 0.5,
        "method.agreement": 1.0,
    }
    assert unused_options(changed(RECIPE, openscene)) == {}
    clip2scene = {"method.name": "clip2scene", "method.tau": 0.1, "method.denoise": 0.2, "augment.image_crop": 0.5}
    assert unused_options(changed(RECIPE, clip2scene)) == {}


def test_only_the_keys_that_are_asked_for_are_checked():
    recipe = changed(RECIPE, {"teacher.online": True, "augment.image_crop": 0.5})
    check_options(recipe, ["seed"])
    with pytest.raises(RecipeError, match=r"^teacher\.online has no effect: [^;]*Remove teacher\.online, or"):
        check_options(recipe, ["teacher.online"])


def test_weights_can_be_kept_of_a_start_alone():
    assert list(unused_options(changed(RECIPE, {"network.keep": 0.5}))) == ["network.keep"]
    assert not unused_options(changed(RECIPE, {"network.keep": 0.5, "network.init": "other.safetensors"}))
