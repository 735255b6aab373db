"""What words compete with besides each other: a softmax over one word alone is 1 everywhere, over two it says which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from ov3d_perception.errors import UnknownWordError
from ov3d_perception.language.text import TextSource
from ov3d_perception.language.words import same_word

CANONICAL = ("object", "things", "stuff", "texture")  # canonical phrases of LERF, section 3.4
SYNONYM_COSINE = 0.95


def rivals(
    words: Sequence[str],
    background: Mapping[str, Sequence[str]],
    text: TextSource,
    synonym_cosine: float = SYNONYM_COSINE,
    canonical: bool = True,
) -> Float32[np.ndarray, "p d"]:
    """Embeddings of what competes with the things that ``words`` mean.

    background: a vocabulary: classes, and the words that mean each. Its words compete, less those of a class that one
    of ``words`` is in, and less synonyms, whose cosine with one of them is ``synonym_cosine`` or more. Where nothing is
    left, :data:`CANONICAL` competes if ``canonical``, as far as ``text`` knows it; the result may be empty.
    """
    asked = text.embed(words)
    others = [group for group in background.values() if not any(same_word(a, b) for a in words for b in group)]
    for candidates in ([word for group in others for word in group], CANONICAL if canonical else ()):
        known = [word for word in candidates if knows(text, word)]
        if not known:
            continue
        against = text.embed(known)
        distinct = against[(against @ asked.T).max(axis=1) < synonym_cosine]
        if len(distinct):
            return distinct
    return np.empty((0, asked.shape[1]), np.float32)


def knows(text: TextSource, word: str) -> bool:
    """Whether the text source can embed the word."""
    try:
        text.embed([word])
    except UnknownWordError:
        return False
    return True
