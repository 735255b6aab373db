"""The words a segmentation is asked in: classes, each with one or more prompt words, and their embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Int32

from ov3d_perception.errors import IdentityError, VocabularyError
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.rivals import rivals
from ov3d_perception.language.text import TextSource, TextTower, load_text_source
from ov3d_perception.language.words import normalise_word
from ov3d_perception.types import EncoderIdentity

FEW_CLASSES = 4

__all__ = ["TextBank", "TextSource", "TextTower", "Vocabulary", "load_text_source"]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Classes by name; class c is as probable as its prompts p, those with ``prompt_class[p] == c``, are together.

    ``embeddings`` are unit norm, one row a prompt, in the space of ``identity``; ``logit_scale`` is its encoder's.
    ``negatives`` (q, d) compete with the prompts and are no class: what a few classes are told from.
    """

    names: tuple[str, ...]
    prompts: tuple[str, ...]
    prompt_class: Int32[np.ndarray, " p"]
    embeddings: Float32[np.ndarray, "p d"]
    identity: EncoderIdentity
    logit_scale: float = 100.0
    negatives: Float32[np.ndarray, "q _"] = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_words(
        cls,
        words: Sequence[str] | Mapping[str, Sequence[str]],
        text: TextSource,
        background: Mapping[str, Sequence[str]] | None = None,
    ) -> Vocabulary:
        """Classes from words, each its own prompt, or from a mapping of class name to prompt words.

        background: classes that up to :data:`FEW_CLASSES` compete with, besides each other, as far as none of them has
        their words (see :func:`language.rivals.rivals`); None: nothing does. More classes are taken for all there is.

        Raises VocabularyError as :func:`classes_of`, and for a string; UnknownWordError for a word outside a text bank.
        """
        if isinstance(words, str):
            raise VocabularyError(f"The words are the string '{words}'", f"Give a list: ['{words}']")
        table = classes_of(words.items() if isinstance(words, Mapping) else [(word, [word]) for word in words])
        prompts = [prompt for group in table.values() for prompt in group]
        owner = np.repeat(np.arange(len(table), dtype=np.int32), [len(group) for group in table.values()])
        own = text.embed(prompts)
        if background is None or len(table) > FEW_CLASSES:
            negatives = np.empty((0, own.shape[1]), np.float32)
        else:
            negatives = rivals(prompts, background, text, canonical=len(table) == 1)
        return cls(tuple(table), tuple(prompts), owner, own, text.identity, text.logit_scale, negatives)

    def require(self, identity: EncoderIdentity, what: str = "features") -> None:
        """Raise :class:`IdentityError` unless ``identity`` is compatible with these embeddings."""
        if not self.identity.compatible(identity):
            raise IdentityError(
                f"The words were embedded by {self.identity}, but the {what} belong to {identity}",
                "Embed the words with the same image-text model (its text tower, or a bank stored with it)",
            )


def classes_of(pairs: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[str]]:
    """Classes with their prompt words. A class's id is its place in the list.

    Raises VocabularyError where there is none, a class without a word, or a class twice.
    """
    classes = [(name, list(prompts)) for name, prompts in pairs]
    empty = [name for name, prompts in classes if not prompts or not all(prompt.strip() for prompt in prompts)]
    if not classes or empty:
        raise VocabularyError(
            f"The vocabulary is empty, or these classes have no word: {empty}", "Name at least one word a class"
        )
    names = [normalise_word(name) for name, _ in classes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise VocabularyError(
            f"The vocabulary {[name for name, _ in classes]} holds {', '.join(map(repr, twice))} more than once",
            "Name each class once; a class may have several prompts",
        )
    return dict(classes)
