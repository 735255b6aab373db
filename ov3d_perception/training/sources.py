"""What a recipe names, opened: frames and words."""

from __future__ import annotations

from pathlib import Path

from ov3d_perception.datasets.labelset import LabelSet
from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.datasets.source import FrameSource
from ov3d_perception.errors import IdentityError
from ov3d_perception.language.vocabulary import TextBank, Vocabulary, load_text_source
from ov3d_perception.training.recipe import SourceSpec, VocabularySpec
from ov3d_perception.types import EncoderIdentity


def open_source(spec: SourceSpec) -> FrameSource:
    """The frames of a source; DatasetError as the data set raises it."""
    return open_dataset(spec.dataset, Path(spec.root), **spec.options)


def open_vocabulary(spec: VocabularySpec, identity: EncoderIdentity | None = None) -> Vocabulary:
    """The label set's prompts, embedded by the spec's text source.

    Raises:
        IdentityError: the text belongs to another encoder than ``identity``.
    """
    text = TextBank.load(Path(spec.text), key=spec.key) if spec.key else load_text_source(spec.text)
    if identity is not None and not identity.compatible(text.identity):
        raise IdentityError(
            f"The text of {spec.text} belongs to {text.identity}, the teacher is {identity}",
            "Use the text tower or a bank of the teacher's own model",
        )
    return Vocabulary.from_words(LabelSet.load(spec.labelset).prompts, text)


def words_of(vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Each class with its prompt words, as a checkpoint or a report states them."""
    words: dict[str, list[str]] = {name: [] for name in vocabulary.names}
    for prompt, index in zip(vocabulary.prompts, vocabulary.prompt_class, strict=True):
        words[vocabulary.names[int(index)]].append(prompt)
    return words
