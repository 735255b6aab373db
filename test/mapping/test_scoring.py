"""Scores by code and feature against the plain softmax, and readers beside a writer."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.mapping import scoring
from ov3d_perception.mapping.codebook import CodeList
from ov3d_perception.mapping.query import TextQuery, ask
from ov3d_perception.mapping.scoring import Question, Scorer, probability_of
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import EncoderIdentity

IDENTITY = EncoderIdentity("tiny", "test", 32)
RNG = np.random.default_rng(0)
HEAD = RNG.normal(size=(8, 32)).astype(np.float32)
TEXT = (RNG.normal(size=(6, 8)) @ HEAD).astype(np.float32)
TEXT /= np.linalg.norm(TEXT, axis=1, keepdims=True)


def filled(count: int = 20_000, views: int = 3) -> SemanticMap:
    """Voxels whose embeddings lie between two of the words each, with noise."""
    rng = np.random.default_rng(1)
    semantic_map = SemanticMap(0.2, HEAD, IDENTITY, logit_scale=20.0, max_voxels=2 * count)
    centres = (rng.permutation(40 * 40 * 40)[:count, None] // [1600, 40, 1] % 40 * 0.2 + 0.1).astype(np.float32)
    pair, share = rng.integers(0, 6, (count, 2)), rng.random((count, 1))
    inverse = np.linalg.pinv(HEAD)
    for view in range(views):
        wide = share * TEXT[pair[:, 0]] + (1 - share) * TEXT[pair[:, 1]]
        features = (wide @ inverse + 0.02 * rng.normal(size=(count, 8))).astype(np.float32)
        semantic_map.integrate(centres, features, view + 1)
    return semantic_map


def plain(semantic_map: SemanticMap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys, the softmax probability of word 0 from the map's own features made wide, and how much less the best rival's
    logit is."""
    chunks = list(semantic_map.chunks())
    wide = np.concatenate([chunk.features for chunk in chunks]).astype(np.float64) @ semantic_map.basis
    logits = 20.0 * wide / np.linalg.norm(wide, axis=1, keepdims=True) @ TEXT.T
    keys = np.concatenate([chunk.key for chunk in chunks])
    return keys, np.exp(logits[:, 0]) / np.exp(logits).sum(1), logits[:, 0] - logits[:, 1:].max(1)


def everything(chunk: scoring.MapChunk) -> np.ndarray:
    return chunk.weight > 0


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.9, 0.999])
def test_hits_are_those_of_the_plain_softmax(threshold: float) -> None:
    semantic_map = filled()
    keys, expected, ahead = plain(semantic_map)
    hits = Scorer(semantic_map, Question("word", TEXT)).hits(threshold, everything)
    assert len(np.unique(hits.key)) == len(hits.key)
    truth = keys[(expected >= threshold) & (ahead >= -scoring._TIE)]
    common, at, where = np.intersect1d(hits.key, keys, return_indices=True)
    np.testing.assert_allclose(hits.probability[at], expected[where], atol=2e-3)
    clear = (np.abs(expected - threshold) > 2e-3) & (np.abs(ahead + scoring._TIE) > 1e-2)
    wrong = np.setxor1d(common[clear[where]], truth[np.isin(truth, keys[clear])])
    assert len(wrong) <= 0.03 * len(truth)
    if threshold >= 0.5:  # where the word has no more than a half, a code may take a rival for likelier
        assert set(common[clear[where]].tolist()) <= set(truth.tolist())


def test_many_are_scored_by_code_and_few_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_FEW", 0)
    monkeypatch.setattr(scoring, "_MANY", 2000)
    monkeypatch.setattr(scoring, "_HIT", 0)
    semantic_map = filled()
    keys, expected, _ = plain(semantic_map)
    hits = Scorer(semantic_map, Question("word", TEXT)).hits(0.5, everything)
    truth = keys[expected >= 0.5]
    assert len(np.setxor1d(hits.key, truth)) < 0.05 * len(truth)
    _, at, where = np.intersect1d(hits.key, keys, return_indices=True)
    assert np.abs(hits.probability[at] - expected[where]).mean() < 0.02


def test_codes_are_off_to_either_side_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry's own odds are too good for the voxels around it; what is said of them is not, and says how far."""
    rng, rivals = np.random.default_rng(0), RNG.normal(size=(6, 8)).astype(np.float32)
    vectors = 0.1 * rng.normal(size=(50, 8)).astype(np.float32)
    noise = (rng.normal(size=(2000, 8)) @ (0.01 * rng.normal(size=(8, 8)))).astype(np.float32)
    noise = np.concatenate([noise, -noise])
    spread = noise.T @ noise / len(noise)
    codes = CodeList(vectors, spread, np.ones(50, np.float32), np.zeros(50, bool))
    said = scoring._CodeScores.of(codes, rivals, 20.0)
    logit = -np.log(np.exp(20.0 * (vectors[:, None] + noise) @ rivals.T).sum(2))  # (codes, voxels)
    monkeypatch.setattr(scoring, "_BEND", 0.0)
    plain = scoring._CodeScores.of(codes, rivals, 20.0)
    bias, left = logit.mean(1) - plain.log_odds, logit.mean(1) - said.log_odds
    assert (bias < 0.01).all() and bias.mean() < -0.1
    assert np.abs(left).mean() < 0.3 * np.abs(bias).mean()
    ratio = said.deviation / logit.std(1)
    assert ratio.min() > 0.6 and ratio.max() < 1.4 and 0.9 < ratio.mean() < 1.1


def test_as_many_are_scored_exactly_as_the_hits_leave_time_for() -> None:
    doubt, voxels = np.float32([0.1, 2.0, 4.0, 0.5, 1.0]), np.full(5, 40_000.0)
    assert scoring._limit(doubt, voxels, 250_000) == scoring._SURE
    assert scoring._limit(doubt, voxels, 130_000) == 1.0
    assert scoring._limit(doubt, voxels, 90_000) == 0.5
    assert scoring._limit(doubt, voxels, 10_000) == 0.0
    few = np.full(5, 15_000.0)
    assert scoring._limit(doubt + 3, few, 250_000) == 4.0, "codes that are sure, too, while there is time"
    assert scoring._limit(doubt[:1], few[:1], 100_000) == scoring._limit(doubt[:0], few[:0], 0) == float("inf")


def test_a_small_map_is_scored_exactly() -> None:
    """However sure its codes are."""
    semantic_map = filled(5000)
    keys, expected, ahead = plain(semantic_map)
    for threshold in (0.02, 0.5, 0.98):
        hits = Scorer(semantic_map, Question("word", TEXT)).hits(threshold, everything)
        clear = (np.abs(expected - threshold) > 2e-3) & (np.abs(ahead + scoring._TIE) > 1e-2)
        truth = keys[clear & (expected >= threshold) & (ahead >= -scoring._TIE)]
        assert set(truth.tolist()) == set(hits.key.tolist()) & set(keys[clear].tolist())


def test_probabilities_of_all_rows() -> None:
    semantic_map = filled()
    keys, expected, _ = plain(semantic_map)
    rows, its = semantic_map.occupied()
    found = Scorer(semantic_map, Question("word", TEXT)).probabilities()
    order = np.argsort(its)
    error = found[rows][order] - expected[np.argsort(keys)]
    assert np.sqrt((error**2).mean()) < 0.12
    semantic_map.drop_older(99)
    assert not Scorer(semantic_map, Question("word", TEXT)).probabilities().any(), "rows without a voxel have none"


def test_probability_by_hand() -> None:
    """One rival, 0.1 in cosine below the word: odds exp(-2) at a scale of 20."""
    rivals = np.float32([[-0.1, 0.0]])
    found = probability_of(np.float32([[3, 0], [0, 2]]), rivals, 20.0)
    np.testing.assert_allclose(found, [1 / (1 + np.exp(-2)), 0.5], rtol=1e-5)


def test_two_queries_a_save_and_the_writer_at_once() -> None:
    """Nobody fails, and every answer is whole. How long they wait: benchmarks/map_concurrency.py."""
    semantic_map = filled(30_000)
    bank = TextBank(tuple("abcdef"), TEXT, IDENTITY, logit_scale=20.0)
    background = {word: [word] for word in "abcdef"}
    done, faults, turns = threading.Event(), [], {"ask": 0, "save": 0}

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            faults.append(repr(error))

    def asking() -> None:
        while not done.is_set():
            matches = ask(semantic_map, TextQuery(["a"], background=background, min_observations=1), bank)
            if not matches or any(len(np.unique(match.keys)) != match.count for match in matches):
                faults.append("answer")
            turns["ask"] += 1

    def saving() -> None:
        while not done.is_set():
            if sum(len(records) for records in semantic_map.records()) < 29_000:
                faults.append("save")
            turns["save"] += 1

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (asking, asking, saving)]
    for thread in threads:
        thread.start()
    rng, stamp = np.random.default_rng(2), 10
    try:
        while stamp < 40 or (min(turns.values()) < 2 and not faults):
            centres = rng.uniform(0, 8, (2000, 3)).astype(np.float32)
            semantic_map.integrate(centres, rng.normal(size=(2000, 8)).astype(np.float32), stamp, np.full(3, 4.0))
            stamp += 1
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not faults
