"""Words taught by examples, in a space of a few dimensions whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.errors import TeachingError
from ov3d_perception.language.pictures import Patches
from ov3d_perception.language.teach import teach

DIM, THING, CAR, TREE = 24, 0, 1, 2
GAP = 20  # text embeddings have this component, image features have not


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def features(axis: int, count: int, seed: int, noise: float = 0.12) -> np.ndarray:
    """Image features of one thing: its own axis, one that all images share, and noise in all but the texts' axis."""
    rows = np.random.default_rng(seed).normal(scale=noise, size=(count, DIM))
    rows[:, GAP] *= 0.02
    rows[:, axis] += 1.0
    rows[:, 10] += 1.0
    return unit(rows)


def word(axis: int) -> np.ndarray:
    row = np.zeros(DIM)
    row[axis], row[GAP] = 0.5, 1.0
    return unit(row)


WORDS = np.stack([word(CAR), word(TREE), *(word(axis) for axis in range(3, 8))])


def examples(count: int = 5, axis: int = THING) -> list[Patches]:
    return [
        Patches(features(axis, 12, seed), np.concatenate([features(CAR, 20, 50 + seed), features(TREE, 20, 90 + seed)]))
        for seed in range(count)
    ]


NOTHING = np.empty((0, DIM), np.float32)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_taught_word_wins_its_thing_and_leaves_the_others_theirs(count: int) -> None:
    taught = teach(examples(count), NOTHING, WORDS)
    assert np.linalg.norm(taught.embedding) == pytest.approx(1.0, abs=1e-6)
    known = np.concatenate([taught.embedding[None], WORDS])
    assert np.mean((features(THING, 200, 1000) @ known.T).argmax(1) == 0) > 0.9
    assert np.mean((features(CAR, 200, 1001) @ known.T).argmax(1) == CAR) > 0.95
    assert np.mean((features(TREE, 200, 1002) @ known.T).argmax(1) == TREE) > 0.95
    assert taught.found.shape == (count,) and taught.found.min() > 0.8 and taught.mistaken < 0.05


def test_what_was_never_shown_is_not_taken() -> None:
    """Things of other words, none of which is in the examples' surroundings: absent things stay absent."""
    known = np.concatenate([teach(examples(), NOTHING, WORDS).embedding[None], WORDS])
    for axis in range(3, 8):
        assert np.mean((features(axis, 100, axis) @ known.T).argmax(1) == 0) < 0.05


def test_it_is_as_loud_as_asked() -> None:
    """Of unseen examples: mean cosine with the taught part = loudness x that of other things with the winning word."""
    rest = np.concatenate([example.outside for example in examples()])
    winning = (rest @ WORDS.T).max(1).mean()
    direction = teach(examples(), NOTHING, WORDS, loudness=1e9).embedding  # nothing mixed in
    cosine = (features(THING, 1000, 77) @ direction).mean()
    for loudness in (0.3, 0.6, 0.75):
        share = teach(examples(), NOTHING, WORDS, loudness).embedding @ direction
        assert share * cosine == pytest.approx(loudness * winning, rel=0.1)


def test_the_mean_of_the_pictures_would_take_everything() -> None:
    """Why the mean feature is no word: it lies nearer to any image than any text does."""
    prototype = unit(np.concatenate([example.inside for example in examples()]).mean(0))
    known = np.concatenate([prototype[None], WORDS])
    assert np.mean((features(CAR, 200, 1001) @ known.T).argmax(1) == 0) > 0.9


def test_examples_and_the_rest_weigh_the_same_however_many_there_are() -> None:
    others = features(CAR, 100, 5)
    once = teach(examples(), others, WORDS).embedding
    twice = teach([*examples(), *examples()], np.concatenate([others, others]), WORDS)
    assert once @ twice.embedding > 0.995
    assert twice.alike < 1.0


def test_an_odd_example_is_found_least() -> None:
    found = teach([*examples(4), Patches(features(9, 12, 3), features(CAR, 20, 4))], NOTHING, WORDS).found
    assert found.argmin() == 4 and found[4] < 0.8 * np.median(found)


def test_more_things_that_it_is_not() -> None:
    """A thing of no word, with half the look of the examples, is told from them by pictures of it."""
    mean = features(THING, 40, 8) + features(9, 40, 9)
    before, after = (teach(examples(), others, WORDS).embedding for others in (NOTHING, unit(mean)))
    assert (unit(mean) @ after).mean() < (unit(mean) @ before).mean() - 0.02


def test_what_cannot_be_taught() -> None:
    with pytest.raises(TeachingError, match="no example"):
        teach([], NOTHING, WORDS)
    with pytest.raises(TeachingError, match="no other word"):
        teach(examples(), NOTHING, WORDS[:0])
    with pytest.raises(TeachingError, match="no surroundings"):
        teach([Patches(features(THING, 5, 0), NOTHING)], NOTHING, WORDS)
    with pytest.raises(TeachingError, match="more in common"):
        opposite = [unit(sign * np.eye(1, DIM, THING)) for sign in (1.0, -1.0)]
        teach([Patches(row, features(CAR, 20, 0)) for row in opposite], NOTHING, WORDS)
