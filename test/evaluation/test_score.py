"""What is scored, on which points, and what an evaluation refuses."""

import dataclasses

import numpy as np
import pytest
import torch
from colour_scene import IDENTITY, ColourEncoder, Walls, bank, split_image, view, wall

from ov3d_perception.errors import DatasetError, IdentityError
from ov3d_perception.evaluation.score import (
    AGREEMENT,
    STUDENT_ALL,
    STUDENT_IN_VIEW,
    TEACHER_IN_VIEW,
    TEACHER_WINDOW,
    label_by_teacher,
    score,
)
from ov3d_perception.inference import LiveModel, Segmenter
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.pairs import pair
from ov3d_perception.networks.checkpoint import CheckpointInfo
from ov3d_perception.recipes.specs import PairSpec, TeacherSpec
from ov3d_perception.types import Frame, Preparation, Sweep

SPEC = PairSpec(occlusion=False)


@pytest.fixture
def vocabulary():
    return Vocabulary.from_words(["red", "green"], bank())


@pytest.fixture
def teacher(tmp_path):
    return ImageTeacher(ColourEncoder(), TeacherSpec("c"), tmp_path / "cache")


def untrained(seed=0):
    torch.manual_seed(seed)
    info = CheckpointInfo("MinkUNet14A", 0.1, ("ones", "intensity"), 0.5, IDENTITY)
    return info.build().eval(), info


@pytest.fixture
def segmenter():
    return Segmenter(*untrained(), device="cpu")


def test_each_mode_counts_its_own_points(segmenter, vocabulary, teacher):
    source = Walls("", 3, blind=(1,))
    result = score(segmenter, source, vocabulary, SPEC, teacher)
    in_view = sum(len(np.unique(pair(source[i], SPEC).point)) for i in range(3))
    assert result.modes[STUDENT_IN_VIEW].points == result.modes[TEACHER_IN_VIEW].points == in_view
    assert result.modes[STUDENT_ALL].points == 1800
    assert TEACHER_WINDOW not in result.modes
    assert result.about["frames"]["unseen"] == 1
    assert result.modes[TEACHER_IN_VIEW].miou > 0.95


def test_no_image_enters_the_students_answer(segmenter, vocabulary):
    frame = Walls("")[0]
    dark = dataclasses.replace(frame, views=(view(np.zeros((48, 64, 3), np.uint8)),))
    np.testing.assert_array_equal(
        LiveModel.of(segmenter, vocabulary)(frame.sweeps).label, LiveModel.of(segmenter, vocabulary)(dark.sweeps).label
    )


def test_labels_belong_to_the_key_sweep_when_sweeps_are_merged(segmenter, vocabulary):
    scan, _ = wall(0, 50)
    frame = Frame("a/0", (Sweep(scan, np.eye(4)),) * 3)
    model = LiveModel.of(segmenter, vocabulary, Preparation(sweeps=3))
    assert model.merge(frame.sweeps).sweeps == 3
    assert model(frame.sweeps).label.shape == (50,)


def test_teacher_labels_only_what_its_pixels_see(vocabulary, teacher):
    scan, labels = wall(0)
    frame = Frame("a/0", (Sweep(scan, np.eye(4)),), (view(split_image("green", "red")),), labels)
    pairs = pair(frame, SPEC)
    said = label_by_teacher(teacher, frame, pairs, vocabulary)
    clear = np.intersect1d(pairs.point, np.flatnonzero(np.abs(scan.xyz[:, 1]) > 1))
    np.testing.assert_array_equal(said[clear], 1 - labels[clear])


def test_neighbouring_views_vote_too(segmenter, vocabulary, teacher):
    result = score(segmenter, Walls("", 3), vocabulary, dataclasses.replace(SPEC, view_window=1), teacher)
    assert result.modes[TEACHER_WINDOW].points == result.modes[TEACHER_IN_VIEW].points


def test_teacher_of_another_encoder_is_refused(vocabulary, teacher):
    network, info = untrained()
    other = Segmenter(network, dataclasses.replace(info, identity=dataclasses.replace(IDENTITY, model="x")), "cpu")
    with pytest.raises(IdentityError, match="teacher"):
        score(other, Walls(""), vocabulary, SPEC, teacher)


def test_a_source_without_labels_is_measured_without_them(segmenter, vocabulary, teacher):
    frames = [dataclasses.replace(frame, labels=None) for frame in Walls("", 2)]
    result = score(segmenter, frames, vocabulary, SPEC, teacher)
    found, said = result.unlabelled, [segmenter(f.sweeps[0].scan, vocabulary) for f in frames]
    labels = np.concatenate([s.label for s in said])
    assert found is not None and (found.frames, found.points) == (2, 1200)
    assert found.share == {n: np.mean(labels == c) for c, n in enumerate(("red", "green")) if (labels == c).any()}
    assert found.mean_confidence == pytest.approx(np.concatenate([s.probability for s in said]).mean())
    seen = [np.unique(pair(f, SPEC).point) for f in frames]
    taught = [label_by_teacher(teacher, f, pair(f, SPEC), vocabulary)[s] for f, s in zip(frames, seen, strict=True)]
    same = np.concatenate([s.label[rows] for s, rows in zip(said, seen, strict=True)]) == np.concatenate(taught)
    assert result.modes[AGREEMENT].accuracy == pytest.approx(same.mean())
    assert result.about["frames"]["used"] == 2
    assert result.about["frames"]["pairs"] == sum(len(pair(frame, SPEC)) for frame in frames)
    assert "| red |" in result.to_markdown() and "unlabelled" in result.to_json()


def test_a_source_of_which_nothing_can_be_read_is_refused(segmenter, vocabulary):
    with pytest.raises(DatasetError, match="No frame"):
        score(segmenter, Walls("", 1, corrupt=(0,)), vocabulary, SPEC)
