"""OpenScene's training on the tiny scene: what the network that it starts from teaches beside the images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from colour_scene import ColourEncoder, assert_resumes, bank, walls_recipe

from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.errors import RecipeError
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.methods import openscene
from ov3d_perception.methods.kl import divergence
from ov3d_perception.methods.linear_head import HeadCosines
from ov3d_perception.networks.registry import build_network
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.load import changed
from ov3d_perception.recipes.method_specs import OpenSceneSpec
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.training import run
from ov3d_perception.training.balance import Balance
from ov3d_perception.training.data.clouds import collate
from ov3d_perception.training.experiment import Run, experiment_of
from ov3d_perception.training.methods.openscene import OpenSceneModule

WORDS = Vocabulary.from_words({"red": ["red", "blue"], "green": ["green"]}, bank())


def made(recipe, tmp_path):
    """The experiment of a recipe, and its module; the words are told apart less sharply than the tiny scene's are."""
    torch.manual_seed(1)
    network = build_network("MinkUNet14A", 2, 3, 0.1)
    source = open_dataset("walls", "", frames=4)
    teacher = ImageTeacher(ColourEncoder(), recipe.teacher, cache_dir() / "teacher")
    found = experiment_of(Run(recipe, network, source, teacher, WORDS, tmp_path / "pairs"))
    module = found.module(10)
    module.logit_scale, module.log = 3.0, lambda *_, **__: None
    return found, module


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    return dataclasses.replace(
        walls_recipe(tmp_path, monkeypatch), method=OpenSceneSpec(agreement=0.3, balance=0.5, ensemble=True)
    )


def test_of_images_and_the_first_network_the_surer_one_teaches(recipe, tmp_path):
    found, module = made(recipe, tmp_path)
    first = {name: value.clone() for name, value in module.network.state_dict().items()}
    with torch.no_grad():
        for weight in module.network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    batch = collate([found.dataset[0, 0], found.dataset[0, 1]])
    module.train()
    loss = module.training_step(batch, 0)

    cloud, targets = SparseTensor(batch.feats, batch.coords), batch.targets
    before = build_network("MinkUNet14A", 2, 3, 0.1)
    before.load_state_dict(first)
    with torch.no_grad():
        said = before.eval().head(before(cloud).feats)[targets.voxel].numpy()
    said /= np.linalg.norm(said, axis=1, keepdims=True).clip(1e-9)
    taken, feature = [], []
    for pixel, own in zip(targets.feature.numpy(), said, strict=True):
        sure = []
        for one in (pixel, own):
            share = np.exp(3 * one) / np.exp(3 * one).sum()  # the three words are the axes: red, green, blue
            sure.append(max(share[0] + share[2], share[1]))
        feature.append(own if sure[1] > sure[0] else pixel)
        taken.append(sure[1] > sure[0])
    assert 0.02 < np.mean(taken) < 0.98
    feature = torch.from_numpy(np.stack(feature))
    student = HeadCosines(module.network(cloud).feats[targets.voxel], module.network.basis)
    weight = Balance(WORDS.prompt_class, 0.5).weights((feature @ module.text.T).argmax(1))
    expected = openscene.losses(openscene.OpenSceneStep(student, feature, weight))["distillation"]
    expected = expected + 0.3 * divergence(3 * student.with_all(module.text), 3 * feature @ module.text.T, weight)
    torch.testing.assert_close(loss, expected)


def test_the_first_network_stays_as_it_was_and_is_no_weight_of_the_training(recipe, tmp_path):
    _, module = made(recipe, tmp_path)
    trained = {id(weight) for weights, _ in module.groups() for weight in weights}
    assert not trained & {id(weight) for weight in module.first.parameters()}
    assert module.student is module.network


def test_a_killed_run_has_the_same_first_network(recipe, tmp_path, monkeypatch):
    recipe = changed(recipe, {"optimiser.epochs": 3})
    assert_resumes(recipe, tmp_path, monkeypatch, (OpenSceneModule, 4))


def test_an_ensemble_needs_words(recipe, tmp_path):
    bare = dataclasses.replace(recipe, validation=None, vocabulary=None, method=OpenSceneSpec(ensemble=True))
    with pytest.raises(RecipeError, match="vocabulary"):
        run.train(bare, tmp_path / "out", device="cpu")
