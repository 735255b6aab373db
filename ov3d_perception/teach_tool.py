"""Words taught by examples, without a robot: by pictures, or by a place of a map. What ``ov3d bank teach`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from ov3d_perception.errors import TeachingError
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.pictures import Picture, patches_of, read_picture
from ov3d_perception.language.teach import LOUDNESS, Taught, teach
from ov3d_perception.language.words import same_word
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.mapping.place import Place, examples_at
from ov3d_perception.mapping.save_load import load_map
from ov3d_perception.networks.checkpoint_info import load_info
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.former import of_checkpoint
from ov3d_perception.recipes.parse import from_dict
from ov3d_perception.recipes.specs import TeacherSpec
from ov3d_perception.types import EncoderIdentity

_OF_PUBLISHED = 1.5
"""Loudness of words taught by pictures to a published CLIP: with less, the networks that learn from it find nothing."""
_OF_SMALL = 0.6
"""To an encoder of one's own, chosen on worlds 1000 to 1004 of the simulated street (docs/taught_words.md)."""
_ENOUGH = 5  # examples, from which on none is asked for
_ALIKE = 0.98  # cosine between the two examples that differ most
_ODD = 0.25  # times the median share found: an example below it is unlike the others
_SHIPPED = "models/street_clip"
_ASPECT = 1.25  # an image that differs more from the teacher's size in shape is a crop


@dataclass(frozen=True)
class Lesson:
    """What was learned. notes: what the user should know of it, a sentence each."""

    bank: TextBank
    taught: Taught
    notes: tuple[str, ...]

    def __str__(self) -> str:
        found, several = self.taught.found, len(self.taught.found) > 1
        return "\n".join(
            [
                f"It is the best of the bank's words on {found.mean():.0%} of an example"
                + (f" that it was not taught by ({found.min():.0%} to {found.max():.0%})" if several else "")
                + f", and on {self.taught.mistaken:.1%} of what is around and beside them",
                *self.notes,
            ]
        )


def teacher_spec(
    bank: TextBank, like: Path | None = None, model: str = "", pretrained: str | None = None
) -> TeacherSpec:
    """How pictures are encoded: as the checkpoint ``like`` was taught, or plainly by the encoder of the bank.

    model, pretrained: where its weights are, if not where the checkpoint or the bank says.
    Raises CheckpointError, TeachingError for a checkpoint without a recipe.
    """
    if like is not None:
        info = load_info(like)
        if not info.recipe:
            raise TeachingError(f"{like} carries no recipe that names its image teacher", "Name the encoder: --model")
        spec = from_dict(of_checkpoint(info.recipe)).teacher
    elif bank.identity.pretrained == "local":
        spec = TeacherSpec(_SHIPPED if bank.identity.model == Path(_SHIPPED).name else bank.identity.model)
    else:
        spec = TeacherSpec(bank.identity.model, bank.identity.pretrained)
    return (
        replace(spec, model=model, pretrained=pretrained)
        if model
        else replace(spec, pretrained=pretrained or spec.pretrained)
    )


def teach_from_pictures(
    bank: TextBank,
    word: str,
    sources: Sequence[str],
    spec: TeacherSpec,
    negatives: Sequence[str] = (),
    masks: Path | None = None,
    loudness: float = 0.0,
    replaced: bool = False,
) -> Lesson:
    """The bank with a word that means what the pictures show; ``negatives`` show other things alone.

    sources, masks: see :func:`read_picture`; loudness: see :func:`teach`, 0 for :func:`default_loudness`.
    Raises ImageError, EncoderError, IdentityError (encoder and bank differ), VocabularyError (the word is there),
    TeachingError.
    """
    bank.require_new(word, replaced)
    loudness = loudness or default_loudness(bank.identity)
    pictures, repeated = _distinct([read_picture(source, masks) for source in sources])
    others = [read_picture(source) for source in negatives]
    encoder = load_encoder(spec.model, spec.pretrained, device="auto", precision=spec.precision)
    bank.require(encoder.identity)
    image_teacher = ImageTeacher(encoder, spec, cache_dir() / "teacher")
    examples = [patches_of(picture, _encode(image_teacher, picture), framed=not others) for picture in pictures]
    dim = bank.identity.dim
    rest = [_encode(image_teacher, picture).reshape(dim, -1).T for picture in others]
    taught = teach(examples, _stacked(rest, dim), _rivals(bank, word), loudness)
    origin = {
        "from": "pictures",
        "files": {picture.name: picture.sha256 for picture in pictures},
        "not": {picture.name: picture.sha256 for picture in others},
        "examples": len(pictures),
        "patches": sum(len(example.inside) for example in examples),
        "teacher": {key: value for key, value in asdict(spec).items() if key not in ("cache_gb", "online")},
    }
    notes = [f"{len(repeated)} pictures are copies of others and were left out: {', '.join(repeated)}"] * bool(repeated)
    return _lesson(bank, word, taught, origin, loudness, replaced, [p.name for p in pictures], notes)


def default_loudness(identity: EncoderIdentity) -> float:
    """Of words taught by pictures: what docs/taught_words.md measured for a published CLIP, or for a small one."""
    return _OF_SMALL if identity.pretrained == "local" else _OF_PUBLISHED


def teach_from_map(
    bank: TextBank, word: str, path: Path, place: Place, loudness: float = 0.0, replaced: bool = False
) -> Lesson:
    """The bank with a word that means what is at a place of a saved map, told from the rest of that map.

    Raises MapFileError, MapError (nothing is there), IdentityError, VocabularyError, TeachingError.
    """
    bank.require_new(word, replaced)
    semantic_map = load_map(path)
    bank.require(semantic_map.identity, f"features of {path}")
    here = examples_at(semantic_map, place)
    loudness = loudness or LOUDNESS
    taught = teach([here], here.outside[:0], _rivals(bank, word), loudness)
    channels, dim = semantic_map.basis.shape
    origin = {
        "from": "map",
        "map": path.name,
        "frame": semantic_map.frame_id,
        "network": semantic_map.basis_id,
        "place": str(place),
        "examples": 1,
        "patches": len(here.inside),
    }
    note = (
        f"A map knows {channels} of the encoder's {dim} dimensions, with the mean of its network's features: "
        f"the word suits this network's scans and maps best"
    )
    return _lesson(bank, word, taught, origin, loudness, replaced, [path.name], [note], enough=1)


def _lesson(
    bank: TextBank,
    word: str,
    taught: Taught,
    origin: dict[str, Any],
    loudness: float,
    replaced: bool,
    names: Sequence[str],
    notes: Sequence[str],
    enough: int = _ENOUGH,
) -> Lesson:
    origin |= {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "encoder": str(bank.identity),
        "loudness": loudness,
        "found": [round(float(share), 3) for share in taught.found],
        "mistaken": round(taught.mistaken, 4),
    }
    said = list(notes)
    if len(names) < enough:
        said.append(f"{len(names)} examples are few: give {enough} or more, from several places and sides")
    if len(names) > 1 and taught.alike > _ALIKE:
        said.append("The examples are all alike: the word knows one view; add pictures from other places and sides")
    odd = [name for name, share in zip(names, taught.found, strict=True) if share < _ODD * np.median(taught.found)]
    if odd:
        said.append(f"Unlike the others, and worth a look: {', '.join(odd)}")
    near = bank.words[int((bank.embeddings @ taught.embedding).argmax())]
    said.append(f"Of the words that the bank holds already, {near!r} is the nearest")
    return Lesson(bank.with_word(word, taught.embedding, origin, replaced), taught, tuple(said))


def _encode(image_teacher: ImageTeacher, picture: Picture) -> Float32[np.ndarray, "d gh gw"]:
    """Dense features as the teacher makes them; of a crop, whose shape is not the teacher's, in its own size."""
    height, width = picture.image.shape[:2]
    spec = image_teacher.spec
    if spec.size is not None:
        shape = (height / width) / (spec.size[0] / spec.size[1])
        if not 1 / _ASPECT <= shape <= _ASPECT:
            own = replace(spec, size=None)
            image_teacher = ImageTeacher(image_teacher.encoder, own, cache_dir() / "teacher")
    return image_teacher.dense(picture.image).numpy()


def _rivals(bank: TextBank, word: str) -> Float32[np.ndarray, "k d"]:
    """What the new word competes with: the bank's words, less those that are the word itself."""
    kept = [row for row, other in enumerate(bank.words) if not same_word(other, word)]
    return bank.embeddings[kept]


def _distinct(pictures: Sequence[Picture]) -> tuple[list[Picture], list[str]]:
    """The pictures without copies of others, and the copies' names."""
    first = {picture.sha256: picture for picture in reversed(pictures)}
    kept = [picture for picture in pictures if first[picture.sha256] is picture]
    return kept, [picture.name for picture in pictures if first[picture.sha256] is not picture]


def _stacked(parts: Sequence[Float32[np.ndarray, "_ d"]], dim: int) -> Float32[np.ndarray, "n d"]:
    return np.concatenate([np.empty((0, dim), np.float32), *parts])
