"""Words fitted to features whose classes are known."""

import numpy as np
import pytest

from ov3d_perception.errors import TeachingError
from ov3d_perception.language.fit import fit_words

SCALE = 100.0
DIM = 96


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def site():
    """Three classes around a common direction; the words of the second, a tenth of all, are too quiet to win any.

    Features have nothing along the last axis; the words share it, as text and images are apart.
    """
    rng = np.random.default_rng(0)
    axes = np.eye(DIM)
    centres = np.stack([3 * axes[0] + 0.5 * axes[1], 3 * axes[0] - 0.5 * axes[1], 3 * axes[0] + 0.6 * axes[2]])
    label = rng.choice(3, 6000, p=[0.6, 0.1, 0.3])
    noise = 0.06 * rng.normal(size=(6000, DIM))
    noise[:, 1:3] *= 2
    noise[:, -1] = 0
    rows = 0.1 * centres / 3
    rows[1] -= 0.015 * axes[0]
    words = unit(rows + axes[-1])
    return unit(centres[label] + noise), label, np.repeat(words, 2, axis=0), np.repeat(np.arange(3), 2)


def right(features, label, words, owner):
    return np.mean(owner[(features @ words.T).argmax(axis=1)] == label)


def test_a_class_whose_words_are_too_quiet_is_found(site):
    features, label, words, owner = site
    fitted = fit_words(features, words, owner, SCALE)
    rare = label == 1
    assert right(features[rare], 1, words, owner) == 0.0
    assert right(features[rare], 1, fitted.embeddings, owner) > 0.75
    assert right(features, label, fitted.embeddings, owner) > right(features, label, words, owner) + 0.05
    np.testing.assert_allclose(np.linalg.norm(fitted.embeddings, axis=1), 1.0, atol=1e-6)
    assert fitted.before[1] == 0.0 and 0.07 < fitted.after[1] < 0.1 and fitted.after.sum() == pytest.approx(1)


def test_a_class_that_is_not_there_stays_absent(site):
    features, label, words, owner = site
    fitted = fit_words(features[label != 1], words, owner, SCALE)
    assert fitted.after[1] < 0.002


def test_what_wins_is_as_loud_as_before(site):
    features, _, words, owner = site
    fitted = fit_words(features, words, owner, SCALE)
    loud = (features @ words.T).max(axis=1).mean()
    assert (features @ fitted.embeddings.T).max(axis=1).mean() == pytest.approx(loud, abs=5e-3)


def test_without_strength_words_answer_as_before(site):
    features, _, words, owner = site
    fitted = fit_words(features, words, owner, SCALE, strength=1e-9)
    assert (fitted.before == fitted.after).mean() == 1
    np.testing.assert_allclose(features @ fitted.embeddings.T, features @ words.T, atol=1e-4)


def test_no_order_of_features_matters(site):
    features, _, words, owner = site
    turned = fit_words(features[::-1], words, owner, SCALE)
    np.testing.assert_allclose(turned.embeddings, fit_words(features, words, owner, SCALE).embeddings, atol=1e-5)


def test_too_little_is_refused(site):
    features, _, words, owner = site
    with pytest.raises(TeachingError, match="10 features and 3 classes"):
        fit_words(features[:10], words, owner, SCALE)
    with pytest.raises(TeachingError, match="1 classes"):
        fit_words(features, words[:2], owner[:2], SCALE)
