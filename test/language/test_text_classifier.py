from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.language import text_classifier
from ov3d_perception.language.text_classifier import TextClassifier
from ov3d_perception.types import UNLABELLED


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(2, 24), st.integers(1, 9))
@settings(max_examples=40)
def test_cosines_equal_those_of_the_wide_features(seed: int, count: int, channels: int, prompts: int) -> None:
    generator = np.random.default_rng(seed)
    basis = generator.normal(size=(channels, 32)).astype(np.float32)
    text = generator.normal(size=(prompts, 32)).astype(np.float32)
    features = generator.normal(size=(count, channels), scale=10.0 ** generator.integers(-3, 3)).astype(np.float32)
    wide = features.astype(np.float64) @ basis
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    expected = wide @ (text / np.linalg.norm(text, axis=1, keepdims=True)).T
    np.testing.assert_allclose(TextClassifier(basis, text).cosines(torch.from_numpy(features)), expected, atol=2e-5)


def test_by_hand() -> None:
    """Basis = identity, so features are their own wide ones: (3, 4) is at cosine 0.6 to x and 0.8 to y."""
    text = TextClassifier(np.eye(2, dtype=np.float32), np.array([[1, 0], [0, 2], [0, -1]], np.float32))
    features = torch.tensor([[3.0, 4.0], [5.0, 0.0]])
    np.testing.assert_allclose(text.cosines(features), [[0.6, 0.8, -0.8], [1, 0, 0]], atol=1e-6)
    label, probability = text.classify(features, np.array([1, 0, 1]), logit_scale=5.0)
    e = np.exp([3.0, 4.0, -4.0])
    assert label.tolist() == [0, 1]
    np.testing.assert_allclose(probability[0], e[1] / e.sum(), rtol=1e-5)
    e = np.exp([5.0, 0.0, 0.0])
    np.testing.assert_allclose(probability[1], (e[0] + e[2]) / e.sum(), rtol=1e-5)


def test_a_class_is_as_probable_as_its_prompts_together() -> None:
    """Cosines 1, 0.94868 and 0.94868: the first prompt is the best one, the other two are more in sum."""
    text = TextClassifier(np.eye(2, dtype=np.float32), np.array([[1, 0], [0.9, 0.3], [0.9, -0.3]], np.float32))
    label, probability = text.classify(torch.tensor([[1.0, 0.0]]), np.array([0, 1, 1]), logit_scale=1.0)
    first, others = np.exp(1.0), 2 * np.exp(0.9 / np.sqrt(0.9))
    assert label[0] == 1 and probability[0].item() == pytest.approx(others / (first + others), abs=1e-5)
    label, probability = text.classify(torch.tensor([[1.0, 0.0]]), np.array([0, 1, 1]), logit_scale=100.0)
    assert label[0] == 0 and probability[0] > 0.98  # sharp, as CLIP is: one prompt that fits better decides


def test_rivals_compete_one_by_one_and_leave_the_best_class_its_probability() -> None:
    """The class has 0.4, each of two rivals 0.3: the class wins, though they are more in sum; not against 0.5."""
    text = TextClassifier(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    for odds, label in (((0.4, 0.3, 0.3), 0), ((0.4, 0.5, 0.1), UNLABELLED)):
        cosine = torch.log(torch.tensor([odds])) / 10 + 0.5  # of a feature that is then of unit length
        cosine = cosine / cosine.norm()
        scale = float(torch.log(torch.tensor(odds[0] / odds[2])) / (cosine[0, 0] - cosine[0, 2]))
        found, probability = text.classify(cosine, np.array([0]), logit_scale=scale)
        assert found.tolist() == [label]
        assert probability[0].item() == pytest.approx(0.4, abs=1e-3)


def test_long_inputs_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    text = TextClassifier(generator.normal(size=(4, 8)).astype(np.float32), generator.normal(size=(3, 8)))
    features = torch.from_numpy(generator.normal(size=(100, 4)).astype(np.float32))
    whole = text.classify(features, np.arange(3), 10.0)
    monkeypatch.setattr(text_classifier, "_CHUNK", 7)
    for a, b in zip(whole, text.classify(features, np.arange(3), 10.0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_features_of_length_zero_and_huge_ones_stay_finite() -> None:
    text = TextClassifier(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    features = torch.tensor([[0, 0, 0], [1e15, 0, 0], [1e-15, 0, 0]])
    label, probability = text.classify(features, np.arange(3), 100.0)
    assert text.cosines(features).isfinite().all() and probability.isfinite().all()
    assert label[1] == 0
    empty, nothing = text.classify(features[:0], np.arange(3), 100.0)
    assert empty.shape == nothing.shape == (0,)
