"""What a site's training takes from the network that runs, and what is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from ov3d_perception.errors import RecipeError
from ov3d_perception.learning.site_recipe import own_recipe, site_recipe
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.networks.checkpoint_info import load_info
from ov3d_perception.recipes.load import changed, phases_of

RUNNING = shipped_checkpoint()
OWN = own_recipe(load_info(RUNNING), RUNNING)
SOURCES = [{"dataset": "bag", "root": "/drive", "options": {}}]


@pytest.mark.parametrize("method", ["openscene", "ggsd"])
def test_images_of_other_moments_teach_unless_a_recipe_says_otherwise(method: str) -> None:
    assert OWN.pairs.view_window == 0
    for phase in phases_of(site_recipe(OWN, RUNNING, SOURCES, 10, method, window=5)):
        assert (phase.pairs.view_window, phase.pairs.voxel, phase.pairs.coarse_voxel) == (5, 0.3, 0.6)
    alone = site_recipe(OWN, RUNNING, SOURCES, 10, method, ["pairs.view_window=0"], window=5)
    assert alone.pairs.view_window == 0
    assert site_recipe(OWN, RUNNING, SOURCES, 10, method).pairs == OWN.pairs
    other = changed(OWN, {"pairs.view_window": 2, "pairs.voxel": 0.1})
    assert site_recipe(other, RUNNING, SOURCES, 10, method, window=5).pairs == other.pairs


def test_it_goes_on_from_the_running_network_with_its_teacher_and_words() -> None:
    recipe = site_recipe(OWN, RUNNING, SOURCES, 7, cache_gb=3.0)
    assert (recipe.network.init, recipe.network.inputs) == (str(RUNNING), OWN.network.inputs)
    assert recipe.teacher == changed(OWN, {"teacher.cache_gb": 3.0}).teacher
    assert recipe.train.options["sources"] == SOURCES and recipe.optimiser.epochs == 7
    assert recipe.validation is None and recipe.vocabulary is not None and Path(recipe.vocabulary.text).exists()


def test_what_one_order_kept_of_its_start_is_no_wish_of_the_next() -> None:
    kept = changed(OWN, {"network.init": "first.safetensors", "network.keep": 0.5})
    assert site_recipe(kept, RUNNING, SOURCES, 2).network.keep == 0.0
    assert site_recipe(kept, RUNNING, SOURCES, 2, changes=["network.keep=0.3"]).network.keep == 0.3


def test_ggsd_has_two_phases_of_all_epochs() -> None:
    first, second = phases_of(site_recipe(OWN, RUNNING, SOURCES, 10, "ggsd"))
    assert (first.optimiser.epochs, second.optimiser.epochs) == (7, 3)


def test_a_change_without_a_value_is_refused() -> None:
    with pytest.raises(RecipeError, match="has no '='"):
        site_recipe(OWN, RUNNING, SOURCES, 2, changes=["teacher.flip"])
