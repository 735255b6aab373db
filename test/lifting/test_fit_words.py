"""A bank fitted to the tiny scene."""

import dataclasses

import numpy as np
import pytest
from colour_scene import ColourEncoder, bank, walls_recipe

from ov3d_perception.errors import DatasetError, RecipeError
from ov3d_perception.language import fit
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.origin import describe_origin
from ov3d_perception.lifting import fit_words
from ov3d_perception.recipes.load import changed
from ov3d_perception.recipes.specs import SourceSpec

LABELS = "name: colours\nclasses: {red: {prompts: [red]}, green: {prompts: [green]}}\n"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    found = walls_recipe(tmp_path, monkeypatch)
    monkeypatch.setattr(fit_words, "load_encoder", lambda *_: ColourEncoder())
    (tmp_path / "colours.yaml").write_text(LABELS)
    return changed(found, {"train.options": {"frames": 4}, "vocabulary.labelset": str(tmp_path / "colours.yaml")})


def stub(features, words, owner, scale, strength, rounds):
    """Swaps the words: what was asked of the fit can be seen in the bank."""
    assert features.shape[1] == 3 and len(features) > 1500 and scale == 100.0
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-3)
    return fit.Fitted(words[::-1].copy(), np.array([0.5, 0.5]), np.array([0.25, 0.75]), strength)


def test_the_classes_words_are_replaced_and_the_others_stay(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_words, "fit_words", stub)
    found, report = fit_words.fitted_bank(recipe, strength=0.5)
    found.save(tmp_path / "fitted.npz")
    again = TextBank.load(tmp_path / "fitted.npz")
    np.testing.assert_allclose(again.embed(["red", "green", "blue"]), np.eye(3)[[1, 0, 2]], atol=1e-3)
    assert set(again.origins) == {"red", "green"} and set(again.words) == set(bank().words)
    line = describe_origin("red", again.origins["red"])
    assert line.startswith("red: fitted 2") and "points of walls" in line and "colour/test/3" in line
    assert "| green | 50.0% | 75.0% |" in report and "strength 0.5" in report


def test_what_cannot_be_fitted_is_told(recipe, monkeypatch):
    monkeypatch.setattr(fit_words, "fit_words", stub)
    with pytest.raises(RecipeError, match="no words of a text bank"):
        fit_words.fitted_bank(dataclasses.replace(recipe, vocabulary=None))
    with pytest.raises(DatasetError, match="in view"):
        fit_words.fitted_bank(recipe, SourceSpec("walls", "", {"frames": 1, "blind": [0]}))
