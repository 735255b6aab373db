"""Map files without a robot: ask them, and make clouds and pictures of them. What ``ov3d map`` does offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ov3d_perception.clouds.write import write_cloud
from ov3d_perception.files import replacing
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import TextSource, Vocabulary, load_text_source
from ov3d_perception.mapping.labels import MapLabels
from ov3d_perception.mapping.persistence import load_map
from ov3d_perception.mapping.query import Match, TextQuery, ask, known_classes, question
from ov3d_perception.mapping.scoring import Scorer
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.models import shipped_bank
from ov3d_perception.viz.bev import Annotations, bird_eye
from ov3d_perception.viz.palette import colourise


def query_file(
    path: Path,
    words: Sequence[str],
    negatives: Sequence[str] = (),
    threshold: float = 0.0,
    limit: int = 0,
    text: str = "",
    vocabulary: str = "street",
) -> list[Match]:
    """Ask a map file, as ``~/query`` asks the running map with its default parameters.

    text: bank or model (default: the bank shipped); vocabulary: what the words compete with when there are no
    negatives. Raises MapFileError, IdentityError, UnknownWordError, DatasetError.
    """
    semantic_map, source, classes = _open(path, text, vocabulary)
    query = TextQuery(words, tuple(negatives), background=classes, limit=limit)
    return ask(semantic_map, replace(query, threshold=threshold or query.threshold), source)


def describe(words: Sequence[str], matches: Sequence[Match]) -> str:
    """A line a match; and for a word without any, that nothing like it is there."""
    lines = []
    for word in words:
        own = [match for match in matches if match.word == word]
        lines.append(f"{word}: {len(own) or 'nothing like that here'}")
        for match in own:
            at, size = match.centroid, match.box.size
            lines.append(
                f"  score {match.score:.2f} at ({at[0]:.1f}, {at[1]:.1f}, {at[2]:.1f}) m, "
                f"box {size[0]:.1f} x {size[1]:.1f} x {size[2]:.1f} m, {match.count} voxels"
            )
    return "\n".join(lines)


def export_file(
    path: Path, out: Path, words: Sequence[str] = (), text: str = "", vocabulary: str = "street"
) -> tuple[int, str]:
    """A cloud (``.ply``, ``.pcd``) or a top-down picture (``.png``) of a map file; number of voxels, and what is in it.

    Each voxel has its class in the vocabulary, that class's probability and colour, how many scans saw it, and for each
    of the words its probability as ``p_word``: against the vocabulary's other classes, as a query has it.
    """
    semantic_map, source, classes = _open(path, text, vocabulary)
    labelled = MapLabels(semantic_map, Vocabulary.from_words(classes, source)).update()
    names = tuple(classes)
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
        **_probabilities(semantic_map, rows, words, classes, source),
    }
    comments = (f"frame {semantic_map.frame_id}", *(f"label {number} {name}" for number, name in enumerate(names)))
    write_cloud(out, labelled.centres, colourise(labelled.label, names), columns, comments)
    return len(rows), f"x y z, colour, {', '.join(columns)}"


def _probabilities(
    semantic_map: SemanticMap,
    rows: np.ndarray,
    words: Sequence[str],
    classes: Mapping[str, Sequence[str]],
    source: TextSource,
) -> dict[str, np.ndarray]:
    query = TextQuery(words, background=classes)
    asked = {word: Scorer(semantic_map, question(word, query, source)) for word in words}
    return {"p_" + "_".join(word.replace("-", " ").split()): scorer.exact(rows) for word, scorer in asked.items()}


def _open(path: Path, text: str, vocabulary: str) -> tuple[SemanticMap, TextSource, dict[str, list[str]]]:
    """Map, words, and the classes that the words know. Raises IdentityError if they do not belong together."""
    semantic_map = load_map(path)
    source = load_text_source(text or str(shipped_bank()))
    semantic_map.require(source.identity, "words")
    return semantic_map, source, known_classes(LabelSet.load(vocabulary).prompts, source)
