"""Teachers side by side: scenes of two colours, whose figures can be counted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from colour_scene import COLOURS, IDENTITY, ColourEncoder, Walls, split_image, walls_recipe
from PIL import Image

from ov3d_perception.errors import DatasetError, RecipeError
from ov3d_perception.evaluation import teacher_run
from ov3d_perception.evaluation.pixel_pictures import PixelPictures
from ov3d_perception.evaluation.teachers import compare_teachers, teachers_table
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.pairs import pair
from ov3d_perception.recipes.specs import PairSpec, TeacherSpec

SPEC = PairSpec(occlusion=False, view_window=1)


class Muddled(ColourEncoder):
    """Sees red where green is, but not quite: a wrong teacher that is unsure."""

    def dense(self, images, size=None):
        features = super().dense(images, size)
        swapped = features[:, [1, 0, 2]]
        return 0.6 * swapped + 0.4 * features


@pytest.fixture
def vocabulary():
    soft = TextBank(list(COLOURS), np.eye(3, dtype=np.float32), IDENTITY, logit_scale=5.0)
    return Vocabulary.from_words(["red", "green"], soft)


@pytest.fixture
def teachers(tmp_path):
    return {
        "good": ImageTeacher(ColourEncoder(), TeacherSpec("c"), tmp_path / "good"),
        "bad": ImageTeacher(Muddled(), TeacherSpec("c"), tmp_path / "bad"),
    }


def test_figures_of_a_right_and_a_wrong_teacher(teachers, vocabulary):
    source = Walls("", 3, blind=(1,))
    found = compare_teachers(source, teachers, vocabulary, SPEC)
    in_view = sum(len(np.unique(pair(source[i], SPEC).point)) for i in range(3))
    assert found["good"].single[1.0].points == found["good"].fused[1.0].points == in_view
    assert found["good"].single[1.0].miou > 0.95 and found["bad"].single[1.0].miou < 0.05
    assert found["good"].single[0.5].points == round(in_view / 2)
    assert found["good"].single[0.5].miou == 1.0  # what is near the border of the colours is not sure
    assert found["good"].agreement > 0.95 and found["good"].seconds > 0
    assert found["good"].share["red"] == pytest.approx(0.5, abs=0.1)
    assert found["good"].confidence["red"] > found["bad"].confidence["red"]
    table = teachers_table(found)
    assert "| good | " in table and "surest 50%" in table and "| green | " in table


def test_a_source_without_labels_has_agreement_and_unsure_words(teachers, vocabulary):
    frames = [dataclasses.replace(frame, labels=None) for frame in Walls("", 2)]
    found = compare_teachers(frames, teachers, vocabulary, dataclasses.replace(SPEC, view_window=0))
    assert found["good"].single == {} and found["good"].fused == {}
    assert "least sure words" in teachers_table(found)


def test_nothing_in_view_is_refused(teachers, vocabulary):
    with pytest.raises(DatasetError, match="No frame has a pixel in view"):
        compare_teachers(Walls("", 1, blind=(0,)), teachers, vocabulary, SPEC)


def test_a_picture_has_the_image_above_and_the_classes_below(teachers, vocabulary, tmp_path):
    pictures = PixelPictures(tmp_path / "pictures", vocabulary, 1)
    for _ in range(2):
        pictures(Walls("", 1)[0], "good", teachers["good"])
    (path,) = (tmp_path / "pictures").iterdir()
    assert path.name == "a_000000_good.png"
    picture = np.asarray(Image.open(path))
    assert picture.shape == (96, 64, 3)
    np.testing.assert_array_equal(picture[:48], split_image())
    assert (picture[60, 5] != picture[60, 40]).any()


def test_the_command_compares_rows_and_writes_what_it_found(tmp_path, monkeypatch):
    recipe = walls_recipe(tmp_path, monkeypatch)
    monkeypatch.setattr("ov3d_perception.evaluation.teacher_run.load_encoder", lambda *_: ColourEncoder())
    rows = tmp_path / "rows.yaml"
    rows.write_text("small: {size: [24, 32]}\nmirrored: {flip: true}\n")
    table = teacher_run.compare(recipe, None, {"first": 7}, rows, out=tmp_path / "out", pictures=1)
    assert "| small |" in table and "| mirrored |" in table
    kept = json.loads((tmp_path / "out/teachers.json").read_text())
    assert kept["teachers"]["small"]["spec"]["size"] == [24, 32]
    assert kept["about"]["source"]["options"]["first"] == 7
    assert len(list((tmp_path / "out/pictures").iterdir())) == 2
    assert "| small |" not in teacher_run.compare(recipe, None, {}, rows, only=["mirrored"])
    assert f"| {recipe.name} |" in teacher_run.compare(recipe, None, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("small: {sice: 3}", "'small'.*sice.*Did you mean"),
        ("[1]", "does not hold rows"),
        ("small: {passes: [{way: sclip}]}", "way.*sclip.*maskclip"),
    ],
)
def test_wrong_rows_are_named(tmp_path, monkeypatch, text, message):
    recipe = walls_recipe(tmp_path, monkeypatch)
    rows = tmp_path / "rows.yaml"
    rows.write_text(text)
    with pytest.raises(RecipeError, match=message):
        teacher_run.teachers_of(recipe, rows)


def test_the_shipped_rows_can_be_read(tmp_path, monkeypatch):
    found = teacher_run.teachers_of(walls_recipe(tmp_path, monkeypatch), Path("config/train/teachers.yaml"))
    assert {len(spec.passes) for spec in found.values()} == {0, 1, 2}
