"""From a checkpoint file to all that works on a scan: the network, its words, the preparation of clouds.

PyTorch is not imported with this module: it takes most of a node's start, and ``run.run`` imports it while the node and
its neighbours in the graph discover each other.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ov3d_perception.errors import IdentityError, Ov3dError, UnknownWordError
from ov3d_perception.geometry.upright import Gravity
from ov3d_perception.language.vocabulary import TextSource, Vocabulary, load_text_source
from ov3d_perception.ledger import file_hash
from ov3d_perception.networks.checkpoint_info import words_of_checkpoint
from ov3d_perception.ros.lidar_parameters import LidarParameters
from ov3d_perception.ros.lidar_pipeline import InForce

if TYPE_CHECKING:
    from ov3d_perception.inference import Segmenter

_POINTS, _FEW_POINTS = 20_000, 2_000
"""Of the first run. Beside a network that works on scans, the code is compiled already, and a long run costs a scan."""


def load_network(path: Path, values: LidarParameters, gravity: Gravity, former: InForce | None = None) -> InForce:
    """The network of a file, run once so that its first scan is as fast as the next.

    former: what is in force now, whose words stay (see :func:`words_after`); None: words as the parameters say.
    Raises CheckpointError, Ov3dError for the device or the backend, and for words as :func:`initial_vocabulary`,
    :func:`words_after` and :func:`open_text` do.
    """
    from ov3d_perception.inference import LiveModel

    segmenter = _load_segmenter(path, values)
    if former is None:
        text = open_text(path, values, segmenter)
        vocabulary = initial_vocabulary(path, values, segmenter, text)
    else:
        text, vocabulary = words_after(path, segmenter, former)
    preparation = values.preparation(segmenter.info.preparation)
    model = LiveModel.of(segmenter, vocabulary, preparation, values.min_probability)
    made = InForce.of(model, values, text, path, file_hash(path), gravity)
    segmenter.warm_up(_POINTS if former is None else _FEW_POINTS)
    return made


def initial_vocabulary(path: Path, values: LidarParameters, segmenter: Segmenter, text: TextSource) -> Vocabulary:
    """The words of the parameter, else those that the checkpoint was trained to tell apart."""
    words = values.vocabulary or segmenter.info.vocabulary
    if not words:
        raise UnknownWordError(
            f"The checkpoint {path} names no classes",
            "Set the parameter vocabulary: [car, tree, ...]",
        )
    return Vocabulary.from_words(words, text, segmenter.info.vocabulary)


def open_text(path: Path, values: LidarParameters, segmenter: Segmenter) -> TextSource:
    """The words of the parameter, else the checkpoint's own."""
    if values.text:
        return load_text_source(values.text)
    remedy = f"Set the parameter text: a text bank (.npz) of {segmenter.identity}, or a model with that text tower"
    return words_of_checkpoint(segmenter.info, path, remedy)


def words_after(path: Path, segmenter: Segmenter, former: InForce) -> tuple[TextSource, Vocabulary]:
    """Where words come from, and the words in force, when a network takes the place of ``former``.

    Of the same encoder: the words stay as they are, and a bank that the new checkpoint brings is used if it knows all
    of the former bank's words. Of another encoder: the same classes in the embeddings that the checkpoint brings.

    Raises IdentityError for another encoder that does not bring all words in force.
    """
    present, text = former.model.vocabulary, former.text
    own = words_of_checkpoint(segmenter.info, path) if segmenter.info.bank is not None else None
    if present.identity.compatible(segmenter.identity):
        known = getattr(text, "words", None)
        return (own if own is not None and known is not None and set(known) <= set(own.words) else text), present
    if own is None:
        raise IdentityError(
            f"{path} is a network of {segmenter.identity}, the words in force belong to {present.identity}, and it "
            "brings none of its own",
            "Take a network of the same encoder, or one that carries a text bank",
        )
    try:
        return own, Vocabulary.from_words(classes(present), own, segmenter.info.vocabulary)
    except UnknownWordError as error:
        raise IdentityError(
            f"{path} is a network of another encoder ({segmenter.identity}), and it does not bring the words in "
            f"force: {error.cause}",
            "Set words first that its bank has (~/set_vocabulary), or take a network of the same encoder",
        ) from error


def classes(vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Class names to prompt words."""
    table: dict[str, list[str]] = {name: [] for name in vocabulary.names}
    for prompt, owner in zip(vocabulary.prompts, vocabulary.prompt_class.tolist(), strict=True):
        table[vocabulary.names[owner]].append(prompt)
    return table


def in_present_words(made: InForce, present: InForce) -> InForce:
    """A network that was in force before, with the words and the parameters of now, where the encoders are the same."""
    vocabulary, values = present.model.vocabulary, present.parameters
    if not vocabulary.identity.compatible(made.model.segmenter.identity):
        return made
    model = replace(made.model, min_probability=values.min_probability).with_words(vocabulary)
    return replace(made, model=model, parameters=values, text=present.text)


def _load_segmenter(path: Path, values: LidarParameters) -> Segmenter:
    """The network, on its device. An ``Ov3dError`` of its own for the file, the device and the backend."""
    from ov3d_perception.inference import Segmenter

    try:
        return Segmenter.load(path, values.device, values.precision, values.backend)
    except (RuntimeError, AssertionError) as error:  # what PyTorch raises for a device it does not have
        raise Ov3dError(
            f"The network cannot run on device '{values.device}' ({error})",
            "Set the parameter device to auto or cpu, or make the GPU available to PyTorch",
        ) from error
