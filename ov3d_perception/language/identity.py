"""An encoder's identity without the encoder: for features that come from elsewhere."""

from __future__ import annotations

import json

import open_clip

from ov3d_perception.errors import EncoderError, IdentityError
from ov3d_perception.language import weights
from ov3d_perception.language.text import load_text_source
from ov3d_perception.types import EncoderIdentity

NO_ENCODER = EncoderIdentity("none", "none", 0)
"""Of features that no words can be compared with; any number of dimensions."""
_CLIP_LOGIT_SCALE = 100.0


def find_identity(encoder: str = "", text: str = "") -> tuple[EncoderIdentity, float]:
    """(identity, inverse temperature) by name, from a source of text embeddings, or from both, which must agree.

    encoder: "<model>,<pretrained>" as :func:`load_encoder` takes them, or "none"; text: as :func:`load_text_source`.
    Raises IdentityError where they disagree or neither is given, EncoderError for an unknown name.
    """
    if not encoder and not text:
        raise IdentityError("Nothing says whose features they are", "Name the encoder, or a text bank of it")
    named = identity_of(encoder) if encoder else None
    if not text:
        assert named is not None
        return named, _CLIP_LOGIT_SCALE
    source = load_text_source(text)
    if named is not None and not named.compatible(source.identity):
        raise IdentityError(f"{text} belongs to {source.identity}, not to {named}", "Name one of the two")
    return source.identity, source.logit_scale


def identity_of(encoder: str) -> EncoderIdentity:
    """The identity of the encoder that these names load, of its configuration alone; hashed where it is a file."""
    if encoder == NO_ENCODER.model:
        return NO_ENCODER
    model, _, pretrained = encoder.partition(",")
    source = weights.resolve(model.strip(), pretrained.strip() or None)
    if source.tag == "hub":
        raise EncoderError(f"What {model} is can only be told once it is loaded", f"Load it: --text {model}")
    if source.folder is not None:
        config = json.loads((source.folder / weights.CONFIG_FILE).read_text(encoding="utf-8"))["model_cfg"]
    else:
        config = open_clip.get_model_config(source.model)
    digest = weights.sha256(source.file) if source.file is not None else ""
    return EncoderIdentity(source.model, source.tag, config["embed_dim"], digest)
