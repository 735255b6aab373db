"""Where the embeddings of words come from: a text tower, or a bank stored by one.

open_clip is imported only when a tower is asked for: a node that answers from a bank starts without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Float32

from ov3d_perception.language.bank import TextBank
from ov3d_perception.types import EncoderIdentity

if TYPE_CHECKING:
    from ov3d_perception.language.encoder import Encoder

DEFAULT_TEMPLATES = "clip2scene85"


class TextSource(Protocol):
    """Something that embeds words in the space of one encoder."""

    @property
    def identity(self) -> EncoderIdentity:
        """The encoder whose space the embeddings live in."""
        ...

    @property
    def logit_scale(self) -> float:
        """Inverse temperature for softmax over cosines."""
        ...

    def embed(self, words: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Unit-norm embeddings, one row a word, in order."""
        ...


class TextTower:
    """Embeds any word: fills the templates, encodes, averages."""

    def __init__(self, encoder: Encoder, templates: str | Sequence[str] = DEFAULT_TEMPLATES) -> None:
        self._encoder = encoder
        self._templates = templates
        self._embedded: dict[str, Float32[np.ndarray, " d"]] = {}

    @property
    def identity(self) -> EncoderIdentity:
        """The encoder's identity."""
        return self._encoder.identity

    @property
    def logit_scale(self) -> float:
        """The encoder's inverse temperature."""
        return self._encoder.logit_scale

    def embed(self, words: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Prompt ensembles; underscores in words read as spaces. Each word is encoded once."""
        from ov3d_perception.language.prompts import ensemble

        cleaned = [" ".join(word.replace("_", " ").split()) for word in words]
        new = [word for word in dict.fromkeys(cleaned) if word not in self._embedded]
        if new:
            embedded = ensemble(self._encoder, new, self._templates).numpy().astype(np.float32)
            self._embedded.update(zip(new, embedded, strict=True))
        return (
            np.stack([self._embedded[word] for word in cleaned]) if cleaned else np.zeros((0, self.identity.dim), "f4")
        )


def load_text_source(spec: str | Path, templates: str = DEFAULT_TEMPLATES, device: str = "cpu") -> TextSource:
    """A bank where ``spec`` is a ``.npz`` file, else a text tower: "<model>" or "<model>,<pretrained>".

    Raises UnknownWordError or EncoderError, as :class:`TextBank` and :func:`load_encoder` do.
    """
    if str(spec).endswith(".npz"):
        return TextBank.load(Path(spec))
    from ov3d_perception.language.encoder import load_encoder

    model, _, pretrained = str(spec).partition(",")
    return TextTower(load_encoder(model.strip(), pretrained.strip() or None, device=device), templates)


def store(source: TextSource, words: Sequence[str]) -> TextBank:
    """A bank of these words, to be saved and used where the tower is not."""
    return TextBank(list(words), source.embed(words), source.identity, source.logit_scale)
