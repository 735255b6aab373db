"""What few words compete with, by hand: five words in a plane of two directions and one beside it."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.language.rivals import CANONICAL, rivals
from ov3d_perception.language.vocabulary import TextBank, Vocabulary
from ov3d_perception.types import EncoderIdentity

DIRECTIONS = {"car": (1.0, 0.0, 0.0), "automobile": (0.99, 0.1, 0.0), "truck": (0.9, 0.5, 0.0), "road": (0.0, 1.0, 0.0)}
CLASSES = {"car": ["car", "automobile"], "truck": ["truck"], "road": ["road"]}


def bank(**more: tuple[float, float, float]) -> TextBank:
    words = DIRECTIONS | more
    vectors = np.array(list(words.values()), np.float32)
    return TextBank(
        tuple(words), vectors / np.linalg.norm(vectors, axis=1, keepdims=True), EncoderIdentity("t", "t", 3)
    )


def test_the_words_of_other_classes_compete() -> None:
    text = bank()
    np.testing.assert_array_equal(rivals(["cars"], CLASSES, text), text.embed(["truck", "road"]))
    np.testing.assert_array_equal(rivals(["truck"], CLASSES, text), text.embed(["car", "automobile", "road"]))


def test_synonyms_and_unknown_words_do_not() -> None:
    text = bank()
    apart = {"automobile": ["automobile"], "road": ["road"], "giraffe": ["giraffe"]}
    np.testing.assert_array_equal(rivals(["car"], apart, text), text.embed(["road"]))


def test_a_thing_of_several_words_is_told_from_none_of_them() -> None:
    text = bank()
    np.testing.assert_array_equal(rivals(["car", "truck"], CLASSES, text), text.embed(["road"]))


def test_where_nothing_is_left_anything_competes_that_is_known() -> None:
    assert rivals(["car"], {}, bank()).shape == (0, 3)
    text = bank(**{CANONICAL[1]: (0.0, 0.0, 1.0)})
    np.testing.assert_array_equal(rivals(["car"], {"car": ["car"]}, text), text.embed([CANONICAL[1]]))


@pytest.mark.parametrize(
    ("words", "negatives"),
    [
        (["car"], 2),
        ({"vehicle": ["car", "truck"]}, 1),
        (["car", "road"], 1),
        (["car", "truck", "road"], 0),
        (["car", "road", "sky", "sea"], 1),
        (["car", "road", "sky", "sea", "sun"], 0),
    ],
)
def test_few_classes_compete_with_those_that_were_not_asked_for(
    words: list[str] | dict[str, list[str]], negatives: int
) -> None:
    text = bank(sky=(0.0, 0.0, 1.0), sea=(0.0, 0.1, -1.0), sun=(-1.0, 0.0, 0.0), **{CANONICAL[1]: (0.0, -1.0, 0.0)})
    assert len(Vocabulary.from_words(words, text, CLASSES).negatives) == negatives
    assert len(Vocabulary.from_words(words, text).negatives) == 0
