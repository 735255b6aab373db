"""The words that a map is asked in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import TextBank, TextSource, Vocabulary, load_text_source
from ov3d_perception.mapping.query import known_classes


@dataclass(frozen=True)
class MapWords:
    """A text source, and classes of its words: those of the map cloud, with which the words of a query compete."""

    text: TextSource
    classes: Mapping[str, Sequence[str]]
    vocabulary: Vocabulary

    @classmethod
    def of(cls, text: TextSource, classes: Mapping[str, Sequence[str]]) -> MapWords:
        """classes: names with their words, of which those remain that ``text`` can embed. Raises UnknownWordError."""
        known = known_classes(classes, text)
        return cls(text, known, Vocabulary.from_words(known, text))

    @classmethod
    def load(cls, source: str, label_set: str) -> MapWords:
        """source: as :func:`load_text_source`; label_set: as :meth:`LabelSet.load`.

        Raises EncoderError, DatasetError or UnknownWordError; an encoder's library may raise errors of its own.
        """
        return cls.of(load_text_source(source), LabelSet.load(label_set).prompts)

    def bank(self) -> TextBank:
        """The text source, where that is a bank; else a bank of the classes' words."""
        words = self.vocabulary
        if isinstance(self.text, TextBank):
            return self.text
        return TextBank(words.prompts, words.embeddings, words.identity, words.logit_scale)
