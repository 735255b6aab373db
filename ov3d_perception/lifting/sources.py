"""What a recipe names, opened: frames and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.errors import DatasetError, IdentityError
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import TextBank, Vocabulary, load_text_source
from ov3d_perception.recipes.specs import SourceSpec, VocabularySpec
from ov3d_perception.types import EncoderIdentity, Frame, Preparation

LABELS = "labels"
"""The "encoder" of a network that was fine-tuned on labels: its space has a dimension for each class."""


class FrameSubset(Sequence[Frame]):
    """Some frames of a source, by index, read when asked. (``torch.utils.data.Subset`` is no sequence.)"""

    def __init__(self, source: Sequence[Frame], indices: Sequence[int]) -> None:
        self.source, self.indices = source, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Frame:  # type: ignore[override]
        return self.source[self.indices[index]]


def _whole(source: Sequence[Frame]) -> Sequence[Frame]:
    while isinstance(source, FrameSubset):
        source = source.source
    return source


def skipped_in(source: Sequence[Frame]) -> Counter[str]:
    """What a source has left out of its frames so far in this process, by kind (see ``FrameSource.left_out``)."""
    return Counter(getattr(_whole(source), "left_out", {}))


def drives_in(source: Sequence[Frame]) -> int:
    """How many drives the frames of a source, or of a part of it, come from; 1 where it does not say."""
    return max(len(getattr(_whole(source), "sequences", ())), 1)


def labelled_as(source: Sequence[Frame], names: Sequence[str]) -> bool:
    """Whether the labels of a source number these classes. True for a source without a label set of its own."""
    labelset = getattr(_whole(source), "labelset", None)
    return labelset is None or tuple(labelset.names) == tuple(names)


def require_classes(source: Sequence[Frame], names: Sequence[str]) -> None:
    """Raise DatasetError where the labels of a source number other classes, or in another order, than ``names``.

    A source without a label set of its own is not checked.
    """
    if not labelled_as(source, names):
        labelset = _whole(source).labelset  # type: ignore[attr-defined]
        raise DatasetError(
            f"The data set's labels are of label set {labelset.name!r} ({', '.join(labelset.names)}), "
            f"the words of other classes ({', '.join(names)})",
            "Give both one label set: the words by --labelset or vocabulary.labelset, the labels by option labelset",
        )


def open_source(spec: SourceSpec) -> Sequence[Frame]:
    """The frames of a source; DatasetError as the data set raises it."""
    source = open_dataset(spec.dataset, Path(spec.root), **spec.options)
    return source if spec.every == 1 else FrameSubset(source, range(0, len(source), spec.every))


def preparation_of(source: Sequence[Frame], sweeps: int) -> Preparation:
    """How a source's clouds are made ready where ``sweeps`` of them are merged."""
    return replace(getattr(_whole(source), "preparation", Preparation()), sweeps=sweeps)


def as_prepared(spec: SourceSpec, preparation: Preparation) -> SourceSpec:
    """The source whose frames have what the preparation needs; options that the spec names itself stay."""
    options: dict[str, Any] = {"sweeps": preparation.sweeps} if preparation.sweeps > 1 else {}
    if spec.dataset == "bag":
        options |= {"deskew": preparation.deskew, "intensity_scale": preparation.intensity_scale or None}
    return replace(spec, options={**options, **spec.options})


def open_vocabulary(spec: VocabularySpec, identity: EncoderIdentity | None = None) -> Vocabulary:
    """The label set's prompts, embedded by the spec's text source.

    Where ``identity`` is that of a fine-tuned network, its classes instead; the text source is not needed then.

    Raises:
        IdentityError: the text belongs to another encoder than ``identity``, the classes to another label set.
    """
    if identity is not None and identity.model == LABELS:
        classes = class_vocabulary(LabelSet.load(spec.labelset))
        classes.require(identity, "network's classes")
        return classes
    text = TextBank.load(Path(spec.text), key=spec.key) if spec.key else load_text_source(spec.text)
    if identity is not None and not identity.compatible(text.identity):
        raise IdentityError(
            f"The text of {spec.text} belongs to {text.identity}, the teacher is {identity}",
            "Use the text tower or a bank of the teacher's own model",
        )
    return Vocabulary.from_words(LabelSet.load(spec.labelset).prompts, text)


def bank_of(spec: VocabularySpec) -> TextBank | None:
    """The whole text bank of a spec whose words are from one; None where they are from a text tower."""
    return TextBank.load(Path(spec.text), key=spec.key) if spec.key or spec.text.endswith(".npz") else None


def class_vocabulary(labelset: LabelSet) -> Vocabulary:
    """The label set's classes, each its own word with a unit vector as its embedding."""
    names = labelset.names
    identity = EncoderIdentity(LABELS, labelset.name, len(names))
    classes = np.arange(len(names), dtype=np.int32)
    return Vocabulary(names, names, classes, np.eye(len(names), dtype=np.float32), identity)


def words_of(vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Each class with its prompt words, as a checkpoint or a report states them."""
    words: dict[str, list[str]] = {name: [] for name in vocabulary.names}
    for prompt, index in zip(vocabulary.prompts, vocabulary.prompt_class, strict=True):
        words[vocabulary.names[int(index)]].append(prompt)
    return words
