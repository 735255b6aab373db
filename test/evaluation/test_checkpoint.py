"""A checkpoint file and the names of a data set give figures that say where they come from."""

import dataclasses

import colour_scene
import pytest
import torch
from colour_scene import IDENTITY, ColourEncoder, Walls, bank

from ov3d_perception.datasets.registry import SOURCES
from ov3d_perception.errors import CheckpointError, DatasetError
from ov3d_perception.evaluation import checkpoint as report
from ov3d_perception.evaluation.score import STUDENT_ALL, STUDENT_IN_VIEW, TEACHER_IN_VIEW
from ov3d_perception.networks.checkpoint import CheckpointInfo, save_checkpoint
from ov3d_perception.recipes.specs import PairSpec, Recipe, SourceSpec, TeacherSpec, VocabularySpec


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "walls", ("colour_scene", "Walls"))
    monkeypatch.setenv("OV3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(report, "load_encoder", lambda *_: ColourEncoder())
    (tmp_path / "colours.yaml").write_text(
        "name: colours\nclasses: {red: {prompts: [red]}, green: {prompts: [green]}}\n"
    )
    bank().save(tmp_path / "bank.npz")
    return VocabularySpec(str(tmp_path / "colours.yaml"), str(tmp_path / "bank.npz"))


def write(path, recipe=None):
    torch.manual_seed(0)
    info = CheckpointInfo("MinkUNet14A", 0.1, ("ones", "intensity"), 0.5, IDENTITY)
    if recipe is not None:
        info = dataclasses.replace(info, recipe=recipe.to_dict(), commit="c0ffee")
    save_checkpoint(path, info.build(), info)
    return path


def test_everything_given(tmp_path, words):
    path = write(tmp_path / "c.safetensors")
    result = report.evaluate_checkpoint(
        path,
        "walls",
        options={"frames": 2},
        labelset=words.labelset,
        text=words.text,
        teacher=TeacherSpec("colour"),
        pairs=PairSpec(occlusion=False),
        device="cpu",
    )
    assert result.about["source"]["options"] == {"frames": 2}
    assert result.about["checkpoint"].startswith("c.safetensors sha256 ")
    assert result.about["association"]["occlusion"] is False
    assert set(result.modes) == {STUDENT_IN_VIEW, STUDENT_ALL, TEACHER_IN_VIEW}


def test_the_recipe_fills_in_what_is_not_given(tmp_path, words):
    recipe = Recipe(
        "r",
        train=SourceSpec("walls", "", {"frames": 3}),
        validation=SourceSpec("walls", "", {"frames": 1, "first": 9}),
        teacher=TeacherSpec("colour"),
        vocabulary=words,
    )
    result = report.evaluate_checkpoint(write(tmp_path / "c.safetensors", recipe), with_teacher=False, device="cpu")
    assert result.about["source"]["options"] == {"frames": 1, "first": 9}
    assert result.about["trained on"]["options"] == {"frames": 3}
    assert result.about["commit"] == "c0ffee"
    assert result.about["teacher"] is None
    assert TEACHER_IN_VIEW not in result.modes
    given = {"options": {"first": 8}, "root": "here", "with_teacher": False, "device": "cpu"}
    other = report.evaluate_checkpoint(tmp_path / "c.safetensors", **given)
    assert other.about["source"]["options"] == {"frames": 1, "first": 8} and other.about["source"]["root"] == "here"


@pytest.mark.parametrize("missing", ["dataset", "labelset", "teacher"])
def test_without_a_recipe_all_must_be_given(tmp_path, words, missing):
    given = {
        "dataset": "walls",
        "labelset": words.labelset,
        "text": words.text,
        "teacher": TeacherSpec("colour"),
    }
    del given[missing]
    with pytest.raises(CheckpointError, match="recipe"):
        report.evaluate_checkpoint(write(tmp_path / "c.safetensors"), device="cpu", **given)


def test_words_in_another_order_than_the_labels_are_an_error(tmp_path, words):
    (tmp_path / "turned.yaml").write_text("name: turned\nclasses: {green: {prompts: [green]}, red: {prompts: [red]}}\n")
    given = {"labelset": str(tmp_path / "turned.yaml"), "text": words.text, "with_teacher": False, "device": "cpu"}
    with pytest.raises(DatasetError, match=r"'colours' \(red, green\), the words of other classes \(green, red\)"):
        report.evaluate_checkpoint(write(tmp_path / "c.safetensors"), "walls", **given)


class LabelledWalls(Walls):
    def __init__(self, root, labelset="nineteen", **options):
        super().__init__(root, **options)
        self.labelset = dataclasses.replace(self.labelset, name=labelset)
        if labelset == "nineteen":
            self.labelset = dataclasses.replace(self.labelset, names=("red",))


def test_a_data_set_of_the_recipe_has_its_label_set(tmp_path, words, monkeypatch):
    monkeypatch.setitem(SOURCES, "labelled walls", ("colour_scene", "LabelledWalls"))
    monkeypatch.setattr(colour_scene, "LabelledWalls", LabelledWalls, raising=False)
    train = SourceSpec("labelled walls", "", {"labelset": "two"})
    path = write(tmp_path / "c.safetensors", Recipe("r", train, TeacherSpec("colour"), vocabulary=words))
    given = {"dataset": "labelled walls", "with_teacher": False, "device": "cpu"}
    assert report.evaluate_checkpoint(path, **given).about["source"]["options"] == {"labelset": "two"}
    with pytest.raises(DatasetError, match="'nineteen'"):
        report.evaluate_checkpoint(path, options={"labelset": "nineteen"}, **given)
