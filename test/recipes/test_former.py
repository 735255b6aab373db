"""Recipes of earlier versions: fields that have moved, and checkpoints that carry the fields of all methods."""

from ov3d_perception.recipes.former import of_checkpoint, renamed
from ov3d_perception.recipes.method_specs import Clip2SceneSpec
from ov3d_perception.recipes.parse import from_dict

FORMER = {
    "name": "r",
    "train": {"dataset": "bag", "root": "drive"},
    "teacher": {"model": "m", "denoise": 0.2},
    "optimiser": {"epochs": 3, "balance": 0.5, "words": 0.3, "targets": 7, "context": 4.0, "average": 0.9},
    "method": {"name": "clip2scene", "tau": 0.1, "samples": 9, "sigma": 3.0},
}


def test_moved_fields_are_found_and_told(caplog):
    data = renamed({**FORMER, "method": {"name": "clip2scene"}})
    assert data["optimiser"] == {"epochs": 3, "ema_decay": 0.9} and data["teacher"] == {"model": "m"}
    assert data["pairs"] == {"targets": 7} and data["augment"] == {"context": 4.0}
    assert data["method"] == {"name": "clip2scene", "balance": 0.5, "agreement": 0.3, "denoise": 0.2}
    assert "optimiser.balance is called method.balance now" in caplog.text
    assert FORMER["optimiser"]["balance"] == 0.5


def test_a_new_name_goes_before_the_former_one():
    assert renamed({"optimiser": {"balance": 0.1}, "method": {"balance": 0.9}})["method"] == {"balance": 0.9}


def test_a_checkpoint_is_read_without_what_its_method_never_read(caplog):
    recipe = from_dict(of_checkpoint(FORMER))
    assert recipe.method == Clip2SceneSpec(tau=0.1, balance=0.5, denoise=0.2)
    assert (recipe.pairs.targets, recipe.augment.context) == (7, 4.0)
    assert not caplog.text
