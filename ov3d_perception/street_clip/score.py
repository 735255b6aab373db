"""How good a teacher the small CLIP is: its dense features at the points' pixels, on worlds it has not seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.occlusion import OcclusionTest
from ov3d_perception.language.encoder import Encoder
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.sample import sample_features
from ov3d_perception.language.vocabulary import TextSource, Vocabulary
from ov3d_perception.street_clip.captions import street_words
from ov3d_perception.types import Frame


@dataclass(frozen=True)
class TeacherScore:
    """IoU of each class of the street label set (nan: not there), their mean, and the share of points that some word
    of nothing in the street (the held-out words, all of them at once) wins against the classes' prompts."""

    iou: dict[str, float]
    miou: float
    accuracy: float
    fooled: float
    points: int


def score_teacher(encoder: Encoder, text: TextSource, frames: Iterable[Frame]) -> TeacherScore:
    """Project every frame's points into its images and classify the features found there."""
    labels = LabelSet.load("street")
    vocabulary = Vocabulary.from_words(labels.prompts, text)
    absent = text.embed(street_words().held_out)
    confusion, fooled = np.zeros((len(labels), len(labels)), np.int64), 0
    for frame in frames:
        if frame.labels is None:
            continue
        pairs = associate(frame, occlusion=OcclusionTest())
        dense = encoder.dense([view.image for view in frame.views])
        for number, view in enumerate(frame.views):
            rows = np.flatnonzero(pairs.camera == number)
            where = np.ascontiguousarray(pairs.uv[rows])
            found = sample_features(dense[number].cpu(), torch.from_numpy(where), view.image.shape[:2]).numpy()
            cosine = found @ vocabulary.embeddings.T
            predicted, truth = vocabulary.prompt_class[cosine.argmax(1)], frame.labels[pairs.point[rows]]
            np.add.at(confusion, (truth, predicted), 1)
            fooled += int(((found @ absent.T).max(1) > cosine.max(1)).sum())
    return _score(confusion, fooled, labels.names)


def _score(confusion: Int64[np.ndarray, "c c"], fooled: int, names: tuple[str, ...]) -> TeacherScore:
    hit, total = np.diag(confusion), int(confusion.sum())
    there = confusion.sum(1) > 0
    iou = np.where(there, hit / np.maximum(confusion.sum(0) + confusion.sum(1) - hit, 1), np.nan)
    return TeacherScore(
        dict(zip(names, iou.tolist(), strict=True)),
        float(np.nanmean(iou)),
        float(hit.sum() / total),
        fooled / total,
        total,
    )
