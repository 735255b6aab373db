"""Fine-tuning on the wall of two colours."""

import json
import math

import numpy as np
import pytest
import torch
from colour_scene import Walls, walls_recipe

from ov3d_perception.errors import CheckpointError, RecipeError
from ov3d_perception.evaluation.checkpoint import evaluate_checkpoint
from ov3d_perception.evaluation.score import STUDENT_ALL, classify
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.sources import class_vocabulary
from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.networks.checkpoint_info import words_of_checkpoint
from ov3d_perception.recipes.load import changed, split_of
from ov3d_perception.training import run
from ov3d_perception.training.data.clouds import CloudBatch, CloudDataset, Columns, collate
from ov3d_perception.training.data.readers import LabelReader
from ov3d_perception.training.finetune import Labelled, finetune
from ov3d_perception.training.initialise import network_of
from ov3d_perception.types import UNLABELLED


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    split = {"dataset": "walls", "root": "", "options": {"frames": 3, "corrupt": [1]}}
    settings = {"finetune.splits": {"two walls": split}, "finetune.epochs": 8, "optimiser.epochs": 1, "repeat": 1}
    rates = {"finetune.learning_rate": 0.05, "finetune.head_rate": 0.5}
    return changed(walls_recipe(tmp_path, monkeypatch), {**settings, **rates})


def test_labels_teach_a_random_network(recipe, tmp_path):
    result = finetune(recipe, tmp_path / "out", "two walls", device="cpu")
    assert result.modes[STUDENT_ALL].miou > 0.9
    about = result.about["training frames"]
    assert (about["split"], about["labelled frames"], about["from"]) == ("two walls", 3, "random")
    assert "image 1 is broken" in about["left out"][0]
    again = evaluate_checkpoint(tmp_path / "out" / "student.safetensors", device="cpu")
    assert again.modes[STUDENT_ALL] == result.modes[STUDENT_ALL]
    network, info = load_checkpoint(tmp_path / "out" / "student.safetensors")
    assert (network.out_channels, info.identity.model, info.recipe["method"]["name"]) == (2, "labels", "labels")
    words = Vocabulary.from_words(info.vocabulary, words_of_checkpoint(info, tmp_path / "out"))
    assert words.names == ("red", "green") and words.identity == info.identity, "nodes label with these"
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["modes"][STUDENT_ALL]["iou"].keys() == {
        "red",
        "green",
    }


def test_a_pretrained_body_comes_along_and_its_head_does_not(recipe, tmp_path):
    run.train(recipe, tmp_path / "pre", device="cpu")
    init = tmp_path / "pre" / "student.safetensors"
    identity = class_vocabulary(LabelSet.load(recipe.vocabulary.labelset)).identity
    network = network_of(changed(recipe, {"network.init": str(init)}), identity)
    before = load_checkpoint(init)[0]
    torch.testing.assert_close(network.block1[0].conv1.kernel, before.block1[0].conv1.kernel)
    assert network.final.kernel.shape[1] == 2
    result = finetune(recipe, tmp_path / "out", "two walls", init, device="cpu", fast=True)
    assert result.about["training frames"]["from"] == str(init)
    with pytest.raises(CheckpointError, match="recipe asks for"):
        finetune(changed(recipe, {"network.width": 0.2}), tmp_path / "other", "two walls", init, device="cpu")


def test_head_and_body_learn_at_their_own_rates(recipe):
    network = network_of(recipe, class_vocabulary(LabelSet.load(recipe.vocabulary.labelset)).identity)
    module = Labelled(network, changed(recipe, {"finetune.head_rate": 2.0}), 10, classes=2)
    (body, slow), (head, quick) = module.groups()
    assert (slow, quick) == (recipe.optimiser.learning_rate, 2.0)
    assert [id(p) for p in head] == [id(network.final.kernel)]
    assert len(body) + 1 == len(list(network.parameters()))


def test_balance_lets_a_rare_class_weigh_what_a_frequent_one_does(recipe, monkeypatch):
    """Of 100 labelled points 90 are of class 0. The network gives both logits 0 but for class 1's points, which it
    gets wrong by 2: plainly they are a tenth of the loss, balanced (power 1, less a count of one each) half of it."""
    network = network_of(recipe, class_vocabulary(LabelSet.load(recipe.vocabulary.labelset)).identity)
    label = torch.tensor([0] * 90 + [1] * 10)
    coords = torch.zeros(100, 4, dtype=torch.int64)
    coords[:, 1] = torch.arange(100)
    batch = CloudBatch(coords, torch.zeros(100, 1), torch.arange(100), label=label)
    logits = torch.zeros(100, 2)
    logits[90:, 0] = 2.0
    losses = []
    for power in (0.0, 1.0):
        module = Labelled(network, changed(recipe, {"finetune.balance": power}), 10, classes=2)
        monkeypatch.setattr(module, "network", FixedLogits(logits))
        monkeypatch.setattr(module, "log", lambda *_, **__: None)
        losses.append(module.training_step(batch, 0).item())
    easy, hard = math.log(2), math.log(1 + math.exp(2))
    assert losses[0] == pytest.approx(0.9 * easy + 0.1 * hard, abs=1e-5)
    share = 10 * 102 / 2 / 11 / (10 * 102 / 2 / 11 + 90 * 102 / 2 / 91)
    assert losses[1] == pytest.approx((1 - share) * easy + share * hard, abs=1e-5)


class FixedLogits(torch.nn.Module):
    """Stands for a network whose head gives each voxel its logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return x

    def head(self, features):
        return self.logits


def test_labels_stay_with_their_points(recipe):
    """Left points shine and are of class 0."""
    still = changed(recipe, {"augment.intensity": 0.0})
    dataset = CloudDataset(LabelReader(Walls("", 2), 1), still, Columns())
    batch = collate([dataset[0, 0], dataset[0, 1]])
    shines = batch.feats[batch.voxel, 1] > 0.5
    assert (shines == (batch.label == 0)).float().mean() > 0.97
    assert set(batch.coords[batch.voxel, 0].tolist()) == {0, 1}


def test_points_without_a_label_teach_nothing(recipe):
    class Partly(Walls):
        def frame(self, index):
            frame = super().frame(index)
            frame.labels[10 if index == 0 else 0 :] = UNLABELLED
            return frame

    batch = CloudDataset(LabelReader(Partly("", 2), 1), recipe, Columns())[0, 1]
    assert "has no label" in batch.skipped[0]
    label = batch.label[batch.label != UNLABELLED]
    assert 1 <= len(label) <= 10 < len(batch.label)
    assert set(label.tolist()) <= {0, 1}


def test_the_highest_output_is_the_class_of_the_highest_cosine():
    vocabulary = class_vocabulary(LabelSet.load("street"))
    outputs = np.random.default_rng(0).normal(size=(50, len(vocabulary))).astype(np.float32)
    np.testing.assert_array_equal(classify(torch.from_numpy(outputs), vocabulary)[0], outputs.argmax(1))


def test_unknown_splits_and_missing_classes_are_named(recipe, tmp_path):
    with pytest.raises(RecipeError, match="two walls"):
        split_of(recipe, "1%")
    bare = changed(recipe, {"vocabulary": None})
    with pytest.raises(RecipeError, match="vocabulary"):
        finetune(bare, tmp_path / "out", "two walls")
