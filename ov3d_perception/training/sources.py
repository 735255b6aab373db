"""What a recipe names, opened: frames and words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ov3d_perception.datasets.labelset import LabelSet
from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.errors import IdentityError
from ov3d_perception.language.vocabulary import TextBank, Vocabulary, load_text_source
from ov3d_perception.training.recipe import SourceSpec, VocabularySpec
from ov3d_perception.types import EncoderIdentity, Frame


class Thinned(Sequence[Frame]):
    """Every n-th frame of a source, read when asked."""

    def __init__(self, source: Sequence[Frame], every: int) -> None:
        self.source, self.every = source, every

    def __len__(self) -> int:
        return -(-len(self.source) // self.every)

    def __getitem__(self, index: int) -> Frame:  # type: ignore[override]
        return self.source[range(0, len(self.source), self.every)[index]]


def open_source(spec: SourceSpec) -> Sequence[Frame]:
    """The frames of a source; DatasetError as the data set raises it."""
    source = open_dataset(spec.dataset, Path(spec.root), **spec.options)
    return source if spec.every == 1 else Thinned(source, spec.every)


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
