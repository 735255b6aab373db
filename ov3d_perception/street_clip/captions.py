"""Captions for crops of simulated images: words for what a crop shows, and words for what is in no image at all."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from string import ascii_lowercase

import numpy as np
import yaml
from jaxtyping import Float32, Int32
from open_clip.tokenizer import default_bpe

from ov3d_perception.language.prompts import templates
from ov3d_perception.language.text import DEFAULT_TEMPLATES

_MERGES = 48_895  # how many lines of the file CLIP itself uses; rarer words follow


@dataclass(frozen=True)
class Words:
    """The word lists of ``words.yaml``. ``classes``: synonyms by class name, "sky" last."""

    classes: dict[str, list[str]]
    pairs: list[str]
    triples: list[str]
    held_out: list[str]

    @property
    def names(self) -> tuple[str, ...]:
        """Class names; their order is that of the columns of shares and mentions."""
        return tuple(self.classes)


@lru_cache(maxsize=1)
def street_words() -> Words:
    """The shipped word lists."""
    text = (resources.files("ov3d_perception.street_clip") / "words.yaml").read_text(encoding="utf-8")
    return Words(**yaml.safe_load(text))


@lru_cache(maxsize=1)
def absent_words() -> tuple[str, ...]:
    """English words that no caption uses, from CLIP's own vocabulary; the held-out ones are not among them."""
    words = street_words()
    used = {part for group in words.classes.values() for word in group for part in word.split()}
    used |= {part for form in (*words.pairs, *words.triples, *templates()) for part in form.split()}
    used |= {part for word in words.held_out for part in word.split()}
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as stream:
        whole = ("".join(line.split()) for line in stream.read().split("\n")[1:_MERGES])
    found = {word.removesuffix("</w>") for word in whole if word.endswith("</w>")}
    plain = {w for w in found if w.isascii() and w.isalpha() and 3 <= len(w) <= 14}
    return tuple(sorted(w for w in plain if w not in used and not _inflected(w, used)))


def _inflected(word: str, used: set[str]) -> bool:
    """True for plurals and the like of a used word ("cars"), and for words whose such form is used."""
    return any(
        word + end in used or (word.endswith(end) and word.removesuffix(end) in used) for end in ("s", "es", "d")
    )


@dataclass(frozen=True)
class Caption:
    """A sentence and how much it speaks of each class (unit length)."""

    text: str
    mentions: Float32[np.ndarray, " c"]


class CaptionWriter:
    """Writes captions for class shares.

    A class is worth a word from ``least`` of the area on; small things catch the eye, so the share of a class counts
    with its square root. Most captions name the one or two foremost classes, a few three.
    """

    def __init__(self, least: float = 0.08) -> None:
        self._least = least
        self._words = street_words()
        self._synonyms = list(self._words.classes.values())
        self._templates = templates(DEFAULT_TEMPLATES) + templates("openscene") + ["{}", "a {}", "a photo of a {}"] * 30

    def salience(self, shares: Float32[np.ndarray, "n c"]) -> Float32[np.ndarray, "n c"]:
        """How much an onlooker would speak of each class: unit length, or zero where nothing is worth a word."""
        weight = np.sqrt(np.where(shares >= self._least, shares, 0)) * np.where(shares >= 0.5, 2.0, 1.0)
        unit = weight / np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), 1e-6)
        return unit.astype(np.float32)

    def write(self, salience: Float32[np.ndarray, " c"], rng: np.random.Generator) -> Caption:
        """A caption of one thing's salience; it must not be zero."""
        order = [int(c) for c in np.argsort(-salience) if salience[c] > 0]
        count = min(len(order), int(rng.choice([1, 1, 2, 2, 3])))
        chosen = order[:count]
        names = [_pick(self._synonyms[c], rng) for c in chosen]
        forms = (self._templates, self._words.pairs, self._words.triples)[count - 1]
        mentions = np.zeros(len(salience), np.float32)
        mentions[chosen] = salience[chosen]
        return Caption(_pick(forms, rng).format(*names), mentions / np.linalg.norm(mentions))

    def absent(self, count: int, rng: np.random.Generator) -> list[str]:
        """Sentences about things that no image shows: unused words, pairs of them, and made-up ones."""
        pool, out = absent_words(), []
        for _ in range(count):
            word, kind = _pick(pool, rng), rng.random()
            if kind < 0.15:
                word = f"{word} {_pick(pool, rng)}"
            elif kind < 0.3:
                word = "".join(rng.choice(list(ascii_lowercase), rng.integers(3, 11)))
            out.append(_pick(self._templates, rng).format(word))
        return out


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def agreement(
    salience: Float32[np.ndarray, "n c"], mentions: Float32[np.ndarray, "m c"], sharpness: float = 6.0
) -> Float32[np.ndarray, "n m"]:
    """How well each caption fits each crop, in [0, 1]: their cosine to the power ``sharpness``, misfits zeroed."""
    cosine = salience @ mentions.T
    return np.where(cosine > 0.3, cosine, 0).astype(np.float32) ** sharpness


def shares_of(labels: Int32[np.ndarray, "h w"], patch: int, classes: int) -> Float32[np.ndarray, "gh gw c"]:
    """Share of each class in each patch; ids outside [0, classes) count as the last class."""
    height, width = labels.shape[0] // patch, labels.shape[1] // patch
    known = np.where((labels >= 0) & (labels < classes), labels, classes - 1)
    blocks = known[: height * patch, : width * patch].reshape(height, patch, width, patch)
    cell = (np.arange(height)[:, None, None, None] * width + np.arange(width)[None, None, :, None]) * classes
    counts = np.bincount((cell + blocks).ravel(), minlength=height * width * classes)
    return (counts.reshape(height, width, classes) / (patch * patch)).astype(np.float32)
