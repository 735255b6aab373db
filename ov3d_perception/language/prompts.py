"""Prompt templates, one file each in ``templates/``, one sentence a line, ``{}`` for the word.

``clip80``: CLIP's ImageNet templates. ``clip2scene85``: those and five "... in the scene" (CLIP2Scene).
``openscene``: "a {} in a scene". ``photo``: "a photo of a {}". ``plain``: the word alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ov3d_perception.errors import EncoderError
from ov3d_perception.language.text import DEFAULT_TEMPLATES

if TYPE_CHECKING:
    from ov3d_perception.language.encoder import Encoder


def available_templates() -> list[str]:
    """Names of the template sets that ship with the package."""
    folder = resources.files("ov3d_perception.language") / "templates"
    return sorted(item.name.removesuffix(".txt") for item in folder.iterdir() if item.name.endswith(".txt"))


def templates(name: str = DEFAULT_TEMPLATES) -> list[str]:
    """The sentences of one set. Raises :class:`EncoderError` for a name that does not exist."""
    item = resources.files("ov3d_perception.language") / "templates" / f"{name}.txt"
    if not item.is_file():
        raise EncoderError(f"There is no prompt template set {name!r}", f"Choose one of {available_templates()}")
    return [line for line in item.read_text(encoding="utf-8").splitlines() if line.strip()]


def ensemble(
    encoder: Encoder, words: Sequence[str], sentences: str | Sequence[str] = DEFAULT_TEMPLATES
) -> Float[Tensor, "n d"]:
    """One unit-norm embedding a word: each sentence's embedding normalised, averaged, normalised again (CLIP)."""
    forms = templates(sentences) if isinstance(sentences, str) else list(sentences)
    filled = [form.replace("{}", word) for word in words for form in forms]
    if not filled:
        return torch.zeros(0, encoder.identity.dim)
    embedded = encoder.encode_text(filled).unflatten(0, (len(words), len(forms)))
    return functional.normalize(embedded.mean(1), dim=-1)
