"""A map's voxels in the classes of a vocabulary, against hand-computed probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.language.vocabulary import TextBank, Vocabulary
from ov3d_perception.mapping import labels
from ov3d_perception.mapping.labels import MapLabels
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import UNLABELLED, EncoderIdentity

IDENTITY = EncoderIdentity("tiny", "test", 2)
BANK = TextBank(["right", "up", "left"], np.array([[1, 0], [0, 1], [-1, 0]], np.float32), IDENTITY, logit_scale=5.0)


def of_features(features: list[list[float]]) -> SemanticMap:
    """A map with a voxel a feature, along x."""
    semantic_map = SemanticMap(0.2, np.eye(2, dtype=np.float32), IDENTITY, max_voxels=1000)
    centres = np.stack([0.2 * np.arange(len(features)) + 0.1, *np.full((2, len(features)), 0.1)], 1)
    semantic_map.integrate(centres.astype(np.float32), np.array(features, np.float32), 1)
    return semantic_map


def test_probabilities_by_hand() -> None:
    """(3, 4) has the cosines 0.6, 0.8, -0.6; of the class "side", both prompts count."""
    words = Vocabulary.from_words({"side": ["right", "left"], "up": ["up"]}, BANK)
    found = MapLabels(of_features([[3, 4], [10, 0]]), words).update()
    e, f = np.exp([3.0, 4.0, -3.0]), np.exp([5.0, 0.0, -5.0])
    assert found.label[np.argsort(found.centres[:, 0])].tolist() == [1, 0]
    expected = [e[1] / e.sum(), (f[0] + f[2]) / f.sum()]
    np.testing.assert_allclose(found.probability[np.argsort(found.centres[:, 0])], expected, atol=0.02)  # bytes


def test_a_class_is_as_probable_as_its_prompts_together() -> None:
    near = TextBank(["x", "a", "b"], np.array([[1, 0], [0.9, 0.3], [0.9, -0.3]], np.float32), IDENTITY, logit_scale=1.0)
    words = Vocabulary.from_words({"x": ["x"], "others": ["a", "b"]}, near)
    found = MapLabels(of_features([[1, 0]]), words).update()
    first, others = np.exp(1.0), 2 * np.exp(0.9 / np.sqrt(0.9))
    assert found.label.tolist() == [1]
    np.testing.assert_allclose(found.probability, [others / (first + others)], atol=0.01)  # bytes


def test_few_classes_leave_voxels_without_a_label() -> None:
    """The class "right" at cosines 0.6, 1 and 0 competes with "up" and "left", each by itself."""
    words = Vocabulary.from_words(["right"], BANK, {"right": ["right"], "up": ["up"], "left": ["left"]})
    found = MapLabels(of_features([[3, 4], [10, 0], [0, 2]]), words).update()
    order = np.argsort(found.centres[:, 0])
    assert found.label[order].tolist() == [UNLABELLED, 0, UNLABELLED]
    scores = np.exp(5.0 * np.array([[0.6, 0.8, -0.6], [1, 0, -1], [0, 1, 0]]))
    np.testing.assert_allclose(found.probability[order], scores[:, 0] / scores.sum(1), atol=0.02)  # bytes


def test_many_voxels_are_labelled_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    semantic_map = of_features(np.random.default_rng(0).normal(size=(100, 2)).tolist())
    words = Vocabulary.from_words(["right", "up", "left"], BANK)
    whole = MapLabels(semantic_map, words).update()
    monkeypatch.setattr(labels, "_ROWS", 7)
    parts = MapLabels(semantic_map, words).update()
    assert (whole.label == parts.label).all() and len(set(whole.label.tolist())) == 3
    np.testing.assert_allclose(whole.probability, parts.probability, rtol=1e-5)
