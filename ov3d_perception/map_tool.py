"""Map files without a robot: ask them, and make clouds and pictures of them. What ``ov3d map`` does offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ov3d_perception.clouds.write import write_cloud
from ov3d_perception.files import replacing
from ov3d_perception.mapping.query import Match, TextQuery, question
from ov3d_perception.mapping.scoring import Scorer
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.mapping.session import MapSession, MapWords
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
    query = TextQuery(words, tuple(negatives), limit=limit, threshold=threshold or TextQuery.threshold)
    return list(_open(path, text, vocabulary).ask(query).matches)


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
    query = TextQuery(words, background=known.classes)
    asked = {word: Scorer(semantic_map, question(word, query, known.text)) for word in words}
    return {"p_" + "_".join(word.replace("-", " ").split()): scorer.exact(rows) for word, scorer in asked.items()}


def _open(path: Path, text: str, vocabulary: str) -> MapSession:
    """The file's map and the words. Raises MapFileError; IdentityError if they do not belong together."""
    return MapSession.open(path, MapWords.load(text or str(shipped_bank()), vocabulary))
