"""GGSD's training on the tiny scene: what its steps compute, what it learns, and that it resumes."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest
import torch
from colour_scene import ColourEncoder, assert_resumes, bank, walls_recipe

from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.errors import RecipeError
from ov3d_perception.evaluation.score import STUDENT_ALL
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.methods import ggsd
from ov3d_perception.networks.registry import build_network
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.load import changed
from ov3d_perception.recipes.method_specs import GgsdSpec, OpenSceneSpec
from ov3d_perception.recipes.specs import OptimiserSpec, SourceSpec
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.training import run
from ov3d_perception.training.data.clouds import collate
from ov3d_perception.training.data.superpoints import voxel_superpoints
from ov3d_perception.training.experiment import Run, experiment_of
from ov3d_perception.training.methods.ggsd import GgsdModule
from ov3d_perception.training.methods.openscene import OpenSceneModule

WORDS = Vocabulary.from_words({"red": ["red"], "green": ["green"]}, bank())
SEEN, BLIND = 0, 2
"""Items of the data set: the source's frames 1 and 3; frame 0 is corrupt."""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    return dataclasses.replace(
        walls_recipe(tmp_path, monkeypatch),
        train=SourceSpec("walls", "", {"frames": 4, "blind": [3], "corrupt": [0]}),
        optimiser=OptimiserSpec(epochs=6, batch=1, learning_rate=0.01, ema_decay=0.8),
        method=GgsdSpec(seed=1.5, voxel=0.3),
        phases=({"method.self_distillation": 0}, {"optimiser.epochs": 2, "optimiser.learning_rate": 0.002}),
        validate_every=20,
    )


def made(recipe, tmp_path, seed=0):
    """The experiment of a recipe of one phase, and its module."""
    torch.manual_seed(seed)
    network = build_network("MinkUNet14A", 2, 3, 0.1)
    source = open_dataset("walls", "", frames=4, blind=[3], corrupt=[0])
    teacher = ImageTeacher(ColourEncoder(), recipe.teacher, cache_dir() / "teacher")
    found = experiment_of(Run(recipe, network, source, teacher, WORDS, tmp_path / "pairs"))
    module = found.module(10)
    module.logged = {}
    module.log = lambda name, value, **_: module.logged.update({name: float(torch.as_tensor(value).detach())})
    return found, module


def test_two_stages_learn_from_colours_to_tell_shine(recipe, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        result = run.train(recipe, tmp_path / "out", device="cpu")
    assert result.modes[STUDENT_ALL].miou > 0.9
    first, second = (
        json.loads((tmp_path / "out" / f"phase{number}/pairs/manifest.json").read_text())["counts"] for number in (1, 2)
    )
    assert (first["used"], first["unseen"]) == (2, 1) and (second["used"], second["unseen"]) == (3, 1)
    reports = [line for line in caplog.messages if "self-distillation: red" in line]
    assert [line[:7] for line in reports] == ["Epoch 0", "Epoch 1"]
    assert "voting changed" in reports[0] and not [line for line in caplog.messages if "collapse" in line]
    state = torch.load(tmp_path / "out/phase2/last.ckpt", weights_only=False)
    assert sum(state["label_watch"]) == pytest.approx(1.0)


def test_a_run_killed_in_either_stage_resumes_to_the_same_weights(recipe, tmp_path, monkeypatch):
    """Two steps an epoch, then three: killed in the last step of the first stage, and in the second epoch of the
    other."""
    recipe = changed(recipe, {"method.balance": 0.5, "method.agreement": 0.3, "method.align": True, "repeat": 1})
    phases = [{**phase, "optimiser.epochs": 2} for phase in recipe.phases]
    assert_resumes(changed(recipe, {"phases": phases}), tmp_path, monkeypatch, (GgsdModule, 4), (GgsdModule, 9))


def test_a_step_is_the_papers_on_all_voxels_with_the_averages_labels(recipe, tmp_path):
    found, module = made(changed(recipe, {"phases": []}), tmp_path)
    _, other = made(changed(recipe, {"phases": []}), tmp_path, seed=5)
    module.average.module.load_state_dict(other.network.state_dict())
    batch = collate([found.dataset[0, SEEN], found.dataset[0, BLIND]])
    module.train()
    loss = module.training_step(batch, 0)

    cloud = SparseTensor(batch.feats, batch.coords)
    superpoint = voxel_superpoints(batch.voxel, batch.superpoint, len(batch.coords))
    with torch.no_grad():
        said = other.network.eval().head(other.network(cloud).feats)
    label = ggsd.vote((torch.nn.functional.normalize(said, dim=1) @ module.text.T).argmax(1), superpoint, 2)
    network = module.network
    step = ggsd.GgsdStep(
        network(cloud).feats,
        network.basis,
        batch.targets.voxel,
        batch.targets.feature,
        superpoint,
        module.text,
        module.word_class,
        label,
    )
    parts = ggsd.losses(step, ggsd.GgsdOptions())
    torch.testing.assert_close(loss, sum(parts.values()))
    assert {name: module.logged[name] for name in parts} == pytest.approx({n: float(p) for n, p in parts.items()})
    assert module.watch.shares() == pytest.approx([float((label == c).float().mean()) for c in (0, 1)])
    assert 0 < len(batch.targets.voxel) < len(batch.coords) and len(torch.unique(superpoint)) > 10


def test_a_scan_without_an_image_teaches_by_itself(recipe, tmp_path):
    found, module = made(changed(recipe, {"phases": []}), tmp_path)
    batch = collate([found.dataset[0, BLIND]])
    assert batch.targets.feature.shape == (0, 0)
    loss = module.training_step(batch, 0)
    loss.backward()
    assert module.logged["pixel_point"] == module.logged["superpoint"] == 0.0
    assert loss.item() == pytest.approx(module.logged["self_distillation"]) and loss.item() > 0
    assert module.network.conv0p1s1.kernel.grad.any()
    assert not [p for p in module.average.parameters() if p.grad is not None]


def test_without_superpoints_and_self_distillation_it_is_openscenes(recipe, tmp_path):
    settings = {"phases": [], "method.superpoint": 0, "method.self_distillation": 0}
    settings |= {"method.balance": 0.5, "method.agreement": 0.3}
    plain = changed(recipe, settings)
    found, module = made(plain, tmp_path)
    batch = collate([found.dataset[0, 0], found.dataset[0, 1]])
    assert len(found.dataset) == 2 and batch.superpoint is None
    same = dataclasses.replace(plain, method=OpenSceneSpec(balance=0.5, agreement=0.3))
    expected = OpenSceneModule(module.network, same, 10, WORDS)
    expected.log = lambda *_, **__: None
    torch.testing.assert_close(module.training_step(batch, 0), expected.training_step(batch, 0))


def test_a_network_without_an_average_cannot_teach_itself(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"ema_decay is 0.*Set it"):
        made(changed(recipe, {"phases": [], "optimiser.ema_decay": 0}), tmp_path)
    made(changed(recipe, {"phases": [], "optimiser.ema_decay": 0, "method.self_distillation": 0}), tmp_path)


def test_it_needs_words_to_teach_itself(recipe, tmp_path):
    for weight, needs in ((1.0, True), (0.0, False)):
        assert GgsdSpec(self_distillation=weight).needs_words is needs
    assert GgsdSpec(self_distillation=0.0, agreement=0.1).needs_words
    with pytest.raises(RecipeError, match="needs words"):
        run.train(changed(recipe, {"vocabulary": None, "phases": []}), tmp_path / "out", device="cpu")


def test_an_unsure_target_weighs_less(recipe, tmp_path):
    """The loss is the mean weighed by confidence to the power asked for, beside the balance of classes."""
    plain = changed(recipe, {"phases": [], "method.superpoint": 0, "method.self_distillation": 0})
    found, module = made(plain, tmp_path)
    batch = found.dataset[0, SEEN]
    targets = dataclasses.replace(batch.targets, confidence=torch.linspace(0.1, 1.0, len(batch.targets.voxel)))
    words = module.pixels(targets)[1]
    assert module.weights(targets, words) is None
    sure = OpenSceneModule(module.network, changed(plain, {"method.confidence": 2.0}), 10, WORDS)
    torch.testing.assert_close(sure.weights(targets, words), targets.confidence**2)
    both = OpenSceneModule(module.network, changed(plain, {"method.confidence": 1.0, "method.balance": 0.5}), 10, WORDS)
    balanced = OpenSceneModule(module.network, changed(plain, {"method.balance": 0.5}), 10, WORDS)
    torch.testing.assert_close(both.weights(targets, words), balanced.weights(targets, words) * targets.confidence)
