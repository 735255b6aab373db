"""The words a segmentation is asked in: classes, each with one or more prompt words, and their embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from ov3d_perception.errors import IdentityError, UnknownWordError
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.text import TextSource, TextTower, load_text_source
from ov3d_perception.types import EncoderIdentity

__all__ = ["TextBank", "TextSource", "TextTower", "Vocabulary", "load_text_source"]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Classes by name; class c is hit by any prompt p with ``prompt_class[p] == c`` (the best prompt counts).

    ``embeddings`` are unit norm, one row a prompt, in the space of ``identity``; ``logit_scale`` is its encoder's.
    """

    names: tuple[str, ...]
    prompts: tuple[str, ...]
    prompt_class: Int32[np.ndarray, " p"]
    embeddings: Float32[np.ndarray, "p d"]
    identity: EncoderIdentity
    logit_scale: float = 100.0

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_words(cls, words: Sequence[str] | Mapping[str, Sequence[str]], text: TextSource) -> Vocabulary:
        """Classes from words, each its own prompt, or from a mapping of class name to prompt words.

        Raises :class:`UnknownWordError` for an empty vocabulary, an empty word, or a word outside a text bank.
        """
        table = {n: list(p) for n, p in words.items()} if isinstance(words, Mapping) else {w: [w] for w in words}
        empty = [name for name, prompts in table.items() if not prompts or not all(p.strip() for p in prompts)]
        if not table or empty:
            raise UnknownWordError(
                f"The vocabulary is empty, or these classes have no word: {empty}", "Name at least one word a class"
            )
        prompts = [prompt for group in table.values() for prompt in group]
        owner = np.repeat(np.arange(len(table), dtype=np.int32), [len(group) for group in table.values()])
        return cls(tuple(table), tuple(prompts), owner, text.embed(prompts), text.identity, text.logit_scale)

    def require(self, identity: EncoderIdentity, what: str = "features") -> None:
        """Raise :class:`IdentityError` unless ``identity`` is compatible with these embeddings."""
        if not self.identity.compatible(identity):
            raise IdentityError(
                f"The words were embedded by {self.identity}, but the {what} belong to {identity}",
                "Embed the words with the same image-text model (its text tower, or a bank stored with it)",
            )
