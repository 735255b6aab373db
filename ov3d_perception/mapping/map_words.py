"""The words that a map is asked in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import FEW_CLASSES, TextBank, TextSource, Vocabulary, load_text_source
from ov3d_perception.mapping.query import known_classes


@dataclass(frozen=True)
class MapWords:
    """A text source, and classes of its words: those of the map cloud.

    background: classes that compete with the map cloud's where these are few, and are not shown; else none.
    """

    text: TextSource
    classes: Mapping[str, Sequence[str]]
    vocabulary: Vocabulary
    background: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        text: TextSource,
        classes: Mapping[str, Sequence[str]],
        background: Mapping[str, Sequence[str]] | None = None,
    ) -> MapWords:
        """classes: names with their words, of which those remain that ``text`` can embed.

        background: such as the checkpoint's classes; see :meth:`Vocabulary.from_words`. Raises UnknownWordError.
        """
        known = known_classes(classes, text)
        wider = dict(background or {}) if len(known) <= FEW_CLASSES else {}
        return cls(text, known, Vocabulary.from_words(known, text, wider or known), wider)

    @property
    def competing(self) -> Mapping[str, Sequence[str]]:
        """The classes with which the words of a query compete: the map cloud's, and where they are few the others."""
        return {**self.background, **self.classes}

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
