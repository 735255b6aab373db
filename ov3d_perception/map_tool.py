"""Map files without a robot: ask them, and make clouds and pictures of them. What ``ov3d map`` does offline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ov3d_perception.clouds.write import write_cloud
from ov3d_perception.files import replacing
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.mapping.map_words import MapWords
from ov3d_perception.mapping.query import TextQuery, question
from ov3d_perception.mapping.save_load import read_words
from ov3d_perception.mapping.scoring import Scorer
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.mapping.session import Answer, MapSession
from ov3d_perception.models import shipped_bank
from ov3d_perception.viz.bev import Annotations, bird_eye
from ov3d_perception.viz.palette import colourise


def query_file(path: Path, query: TextQuery, text: str = "", vocabulary: str = "") -> Answer:
    """Ask a map file, as ``~/query`` asks the running map.

    text: bank or model; vocabulary: label set that the words compete with when there are no negatives; where empty,
    those saved with the map, else the bank shipped and its label set.
    Raises MapFileError, IdentityError, UnknownWordError, DatasetError.
    """
    return _open(path, text, vocabulary).ask(query)


def describe(answer: Answer) -> str:
    """The answer in a line, then a line a match."""
    return "\n".join([str(answer), *(f"  {match.word}: {match}" for match in answer.matches)])


def export_file(
    path: Path, out: Path, words: Sequence[str] = (), text: str = "", vocabulary: str = ""
) -> tuple[int, str]:
    """A cloud (``.ply``, ``.pcd``) or a top-down picture (``.png``) of a map file; number of voxels, and what is in it.

    Each voxel has its class in the vocabulary, that class's probability and colour, how many scans saw it, and for each
    of the words its probability as ``p_word``: against the vocabulary's other classes, as a query has it.
    """
    session = _open(path, text, vocabulary)
    assert session.words is not None
    labels = session.labelled()
    assert labels is not None
    semantic_map, labelled, names = labels
    if out.suffix.lower() == ".png":
        title = Annotations(
            title=path.stem, subtitle=f"{len(labelled.centres)} voxels of {semantic_map.voxel_size:g} m"
        )
        edge = semantic_map.voxel_size
        picture = bird_eye(labelled.centres, labelled.label, names, point_size=edge, notes=title)
        with replacing(out) as file:
            Image.fromarray(picture).save(file, "png")
        return len(labelled.centres), f"{picture.shape[1]} x {picture.shape[0]} pixels"
    rows, _ = semantic_map.occupied()
    columns = {
        "label": labelled.label.astype(np.uint32),
        "probability": labelled.probability,
        "observations": semantic_map.take(rows, features=False).weight,
        **_probabilities(semantic_map, rows, words, session.words),
    }
    comments = (f"frame {semantic_map.frame_id}", *(f"label {number} {name}" for number, name in enumerate(names)))
    write_cloud(out, labelled.centres, colourise(labelled.label, names), columns, comments)
    return len(rows), f"x y z, colour, {', '.join(columns)}"


def _probabilities(
    semantic_map: SemanticMap, rows: np.ndarray, words: Sequence[str], known: MapWords
) -> dict[str, np.ndarray]:
    query = TextQuery(words, background=known.competing)
    asked = {word: Scorer(semantic_map, question(word, query, known.text)) for word in words}
    return {_column(word): scorer.exact(rows) for word, scorer in asked.items()}


def _column(word: str) -> str:
    """``p_word`` as every reader of a header takes it: letters that are not ASCII by their numbers, others as "_"."""
    plain = "".join(letter if letter.isascii() else f"u{ord(letter):04x}" for letter in word)
    return "p_" + "_".join(re.findall(r"\w+", plain))


def _open(path: Path, text: str, vocabulary: str) -> MapSession:
    """The file's map and the words. Raises MapFileError; IdentityError if they do not belong together."""
    saved = read_words(path)
    if saved is not None and not text:
        classes = LabelSet.load(vocabulary).prompts if vocabulary else saved.classes
        return MapSession.open(path, MapWords.of(saved.text, classes, saved.competing))
    return MapSession.open(path, MapWords.load(text or str(shipped_bank()), vocabulary or "street"))
