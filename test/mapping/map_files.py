"""What tests of map files share: a town of three words, and maps of random voxels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.mapping.query import Match, TextQuery, ask
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import EncoderIdentity

IDENTITY = EncoderIdentity("tiny", "test", 6)
WORDS = ("car", "tree", "road")
C = 4
HEAD = np.random.default_rng(3).normal(size=(C, 6)).astype(np.float32)
INVERSE = np.linalg.pinv(HEAD)
TEXT = np.random.default_rng(4).normal(size=(3, C)).astype(np.float32) @ HEAD
BANK = TextBank(WORDS, TEXT, IDENTITY, logit_scale=10.0)


def empty(**options: Any) -> SemanticMap:
    values: dict[str, Any] = {"voxel_size": 0.2, "head": HEAD, "identity": IDENTITY, "logit_scale": 10.0}
    return SemanticMap(**values | {"max_voxels": 100_000} | options)


def town(seed: int = 0, scans: int = 6, east: float = 0.0, **options: Any) -> SemanticMap:
    """Blocks of the three words side by side, with noise, seen from several places; stamps 1, 2, ... seconds."""
    rng, semantic_map = np.random.default_rng(seed), empty(**options)
    for scan in range(scans):
        centres = rng.uniform((0, 0, 0), (12, 8, 2), (6000, 3)) + np.array([east + scan, 0, 0])
        kind = np.floor(centres[:, 0] / 4).astype(int) % 3
        features = (BANK.embeddings[kind] + 0.2 * rng.normal(size=(6000, 6))) @ INVERSE
        sensor = np.array([east + scan, 4.0, 30.0])
        semantic_map.integrate(centres.astype(np.float32), features.astype(np.float32), (scan + 1) * 10**9, sensor)
    return semantic_map


def answers(semantic_map: SemanticMap) -> list[Match]:
    """To all words, each against the others."""
    query = TextQuery(WORDS, negatives=WORDS, threshold=0.25, extent=1.0, min_observations=1, position=np.zeros(3))
    return ask(semantic_map, query, BANK)


def assert_same_answers(mine: SemanticMap, other: SemanticMap) -> None:
    """To the bit."""
    expected, found = answers(mine), answers(other)
    assert len(expected) == len(found) > 2
    for one, two in zip(expected, found, strict=True):
        assert (one.word, one.score, one.last_seen, one.distance) == (two.word, two.score, two.last_seen, two.distance)
        assert one.keys.tolist() == two.keys.tolist()
        assert one.box.centre.tolist() == two.box.centre.tolist() and one.box.yaw == two.box.yaw


def content(semantic_map: SemanticMap) -> dict[int, tuple[np.ndarray, int, int]]:
    """Key to mean embedding, weight and stamp."""
    found = {}
    for chunk in semantic_map.chunks():
        means = chunk.features @ semantic_map.basis
        found |= dict(zip(chunk.key.tolist(), zip(means, chunk.weight, chunk.last_seen, strict=True), strict=True))
    return found
