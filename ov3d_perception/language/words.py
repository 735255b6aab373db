"""How words that people type are compared: "Cars", "a car" and "car" name one thing; "_" and "-" are spaces."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

from ov3d_perception.errors import VocabularyError

_ARTICLES = ("a", "an", "the")
#: Plural endings and what replaces them. Several may apply: "buses" gives "buse" and "bus".
_PLURALS = (("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""))
#: What lies flat and can be driven or walked on, as label sets and people call it.
_GROUND = """ground, other ground, other flat, floor, road, street, lane, lane marking, asphalt, driveable surface,
drivable surface, driveway, parking, parking lot, parking space, pavement, sidewalk, footpath, walkway, crosswalk, path,
dirt path, gravel path, bike path, bike lane, traffic island, traffic median, curb, terrain, grass, grassland, lawn,
meadow, turf, sod, field, soil, dirt, mud, sand, gravel, snow, puddle""".replace("\n", " ").split(", ")
_IRREGULAR = {"people": "person", "men": "man", "women": "woman", "children": "child"}


def normalise_word(word: str) -> str:
    """Lower case, underscores and hyphens as spaces, single spaces, no leading articles."""
    parts = word.lower().replace("_", " ").replace("-", " ").split()
    while len(parts) > 1 and parts[0] in _ARTICLES:
        del parts[0]
    return " ".join(parts)


@lru_cache(maxsize=4096)
def word_forms(word: str) -> tuple[str, ...]:
    """The normalised word, then what it may be the plural of, the likeliest first. Not all of them are words."""
    plain = normalise_word(word)
    head, space, last = plain.rpartition(" ")
    singulars = [_IRREGULAR[last]] if last in _IRREGULAR else []
    if len(last) > 3 and not last.endswith(("ss", "us", "is")):
        singulars += [last.removesuffix("s")] if last.endswith("s") else []
        singulars += [last.removesuffix(end) + new for end, new in _PLURALS if last.endswith(end)]
    return tuple(dict.fromkeys([plain, *(head + space + singular for singular in singulars)]))


def find_word(word: str, known: Collection[str]) -> str | None:
    """The form of ``word`` that is among the ``known`` (normalised) words; None if none is."""
    return next((form for form in word_forms(word) if form in known), None)


def same_word(one: str, other: str) -> bool:
    """Whether the two name one thing: equal, or one may be the other's plural."""
    return not set(word_forms(one)).isdisjoint(word_forms(other))


def is_ground(word: str) -> bool:
    """Whether the word names a kind of ground: road, grass, terrain, a class called driveable_surface, ..."""
    return not set(_GROUND).isdisjoint(word_forms(word))


def distinct_words(words: Sequence[str]) -> list[str]:
    """The words in their order, each once: "car" and "a Car" are one."""
    found: dict[str, str] = {}
    for word in words:
        found.setdefault(normalise_word(word), word)
    return list(found.values())


def require_list(words: Sequence[str]) -> None:
    """Raise VocabularyError where a string was given for a list of words: ``{words: car}`` becomes c, a, r."""
    if len(words) > 1 and all(len(word) <= 1 for word in words):
        text = "".join(words)
        raise VocabularyError(f"The words are the single letters of '{text}'", f"Write a list: {{words: [{text}]}}")
