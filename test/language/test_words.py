"""Words as people type them."""

from __future__ import annotations

import pytest

from ov3d_perception.errors import VocabularyError
from ov3d_perception.language.words import (
    distinct_words,
    find_word,
    is_ground,
    normalise_word,
    require_list,
    same_word,
)


@pytest.mark.parametrize(
    ("word", "plain"),
    [
        ("Car", "car"),
        ("a  Traffic_Cone", "traffic cone"),
        ("the an apple", "apple"),
        ("T-shirt", "t shirt"),
        ("a", "a"),
        ("", ""),
    ],
)
def test_one_spelling(word: str, plain: str) -> None:
    assert normalise_word(word) == plain


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("cars", "car"),
        ("a Car", "car"),
        ("buses", "bus"),
        ("bus", "bus"),
        ("glass", None),  # not the plural of "glas"
        ("shelves", "shelf"),
        ("berries", "berry"),
        ("people", "person"),
        ("traffic_cones", "traffic cone"),
        ("scissors", "scissors"),  # the word itself before what it may be the plural of
        ("grasses", "grass"),
        ("gas", None),  # too short for a plural
        ("lorry", None),
    ],
)
def test_the_bank_is_searched_for_singulars_too(word: str, found: str | None) -> None:
    known = ["car", "bus", "glas", "shelf", "berry", "person", "traffic cone", "scissors", "scissor", "grass", "ga"]
    assert find_word(word, known) == found


def test_two_spellings_of_one_thing() -> None:
    assert same_word("Trees", "a tree") and same_word("women", "woman")
    assert not same_word("car", "cart") and not same_word("glass", "glas")


def test_each_word_once_in_the_order_asked() -> None:
    assert distinct_words(["car", "tree", "a Car", "oak", "tree"]) == ["car", "tree", "oak"]
    assert distinct_words([]) == []


@pytest.mark.parametrize("words", [["car"], ["a"], ["a", "tv"], []])
def test_lists_of_words_pass(words: list[str]) -> None:
    require_list(words)


def test_a_string_in_the_place_of_a_list_is_noticed() -> None:
    with pytest.raises(VocabularyError, match=r"single letters of 'car'\. Write a list: \{words: \[car\]\}"):
        require_list(list("car"))


@pytest.mark.parametrize(("word", "ground"), [("driveable_surface", True), ("Sidewalks", True), ("car", False)])
def test_words_for_ground(word: str, ground: bool) -> None:
    assert is_ground(word) is ground
