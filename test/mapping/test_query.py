"""Questions to a map whose content is known, with scores by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ov3d_perception.errors import IdentityError, UnknownWordError
from ov3d_perception.geometry.boxes import points_in_box
from ov3d_perception.language.vocabulary import TextBank, Vocabulary
from ov3d_perception.mapping.labels import MapLabels
from ov3d_perception.mapping.query import Region, TextQuery, ask
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import EncoderIdentity

IDENTITY = EncoderIdentity("tiny", "test", 4)
WORDS = ("car", "tree", "road", "giraffe", "automobile")
TEXT = np.float32([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0.99, 0, 0.141, 0]])
BANK = TextBank(WORDS, TEXT, IDENTITY, logit_scale=10.0)
BACKGROUND = {"vehicle": ["car"], "plant": ["tree"], "ground": ["road"]}


def block(corner: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    """Centres of a block of 0.2 m voxels."""
    return ((np.indices(shape).reshape(3, -1).T + 0.5) * 0.2 + corner).astype(np.float32)


def query(words: list[str], **options: Any) -> TextQuery:
    """Of maps that were seen once."""
    return TextQuery(words, **{"min_observations": 1, "min_voxels": 10} | options)


THINGS = {
    "car": [block((0, 0, 0), (20, 9, 7)), block((0, 10, 0), (20, 9, 7))],
    "tree": [block((20, 5, 0), (8, 8, 20))],
    "road": [block((-10, -5, -0.2), (100, 60, 1))],
}


@pytest.fixture
def street() -> SemanticMap:
    """Two cars 10 m apart, a tree, a road; the second car was seen later. Here W = I."""
    semantic_map = SemanticMap(0.2, np.eye(4, dtype=np.float32), IDENTITY, logit_scale=10.0)
    for word, blocks in THINGS.items():
        for number, centres in enumerate(blocks):
            features = np.tile(TEXT[WORDS.index(word)], (len(centres), 1))
            semantic_map.integrate(centres, features, stamp=100 + number)
    return semantic_map


def test_both_cars_with_box_count_and_stamp(street: SemanticMap) -> None:
    matches = ask(street, query(["car"], background=BACKGROUND), BANK)
    matches.sort(key=lambda match: match.centroid[1])
    assert [match.count for match in matches] == [1260, 1260]
    assert [match.last_seen for match in matches] == [100, 101]
    np.testing.assert_allclose(matches[0].centroid, [2.0, 0.9, 0.7], atol=1e-5)
    np.testing.assert_allclose(matches[1].box.centre, [2.0, 10.9, 0.7], atol=1e-5)
    np.testing.assert_allclose(matches[0].box.size, [4.0, 1.8, 1.4], atol=1e-5)
    assert points_in_box(THINGS["car"][0], matches[0].box).all()


def test_score_is_the_softmax(street: SemanticMap) -> None:
    (match, _) = ask(street, query(["car"], negatives=["tree", "road"]), BANK)
    assert match.score == pytest.approx(np.exp(10) / (np.exp(10) + 2), rel=1e-3)


def test_absent_word_finds_nothing(street: SemanticMap) -> None:
    assert ask(street, query(["giraffe"], background=BACKGROUND), BANK) == []


def test_words_are_answered_on_their_own_and_in_order(street: SemanticMap) -> None:
    matches = ask(street, query(["tree", "giraffe", "car"], background=BACKGROUND), BANK)
    assert [match.word for match in matches] == ["tree", "car", "car"]


def test_synonyms_in_the_background_do_not_compete(street: SemanticMap) -> None:
    """cos(automobile, car) = 0.99: without the rule both cars would go to "car"."""
    assert len(ask(street, query(["automobile"], background=BACKGROUND), BANK)) == 2
    rigid = query(["automobile"], background=BACKGROUND, synonym_cosine=1.1, threshold=0.5)
    assert ask(street, rigid, BANK) == []


def test_words_of_one_class_do_not_compete(street: SemanticMap) -> None:
    """If trees and cars were one class, what is half a tree would still be a car."""
    half = (TEXT[0] + TEXT[1]) / 2
    street.integrate(block((0, 30, 0), (5, 5, 5)), np.tile(half, (125, 1)), 1)
    apart = ask(street, query(["car"], background=BACKGROUND, threshold=0.6), BANK)
    together = {"thing": ["tree", "car"], "ground": ["road"]}
    matches = ask(street, query(["car"], background=together, threshold=0.6), BANK)
    assert (len(apart), len(matches)) == (2, 3)


def test_given_negatives_always_compete(street: SemanticMap) -> None:
    assert ask(street, query(["automobile"], negatives=["car", "road"], threshold=0.5), BANK) == []


def test_the_word_itself_is_no_negative(street: SemanticMap) -> None:
    assert len(ask(street, query(["Car"], negatives=["car", "tree"]), BANK)) == 2


def test_region_and_limit(street: SemanticMap) -> None:
    near = Region(np.array([2.0, 0.9, 0.0]), np.array([10.0, 4.0, 0.0]))  # no limit in height
    (match,) = ask(street, query(["car"], background=BACKGROUND, region=near), BANK)
    assert match.centroid[1] < 2
    assert len(ask(street, query(["car"], background=BACKGROUND, limit=1), BANK)) == 1
    half = Region(np.array([1.0, 0.9, 0.7]), np.array([2.0, 9.0, 9.0]))
    (match,) = ask(street, query(["car"], background=BACKGROUND, region=half), BANK)
    assert match.count == 630 and match.box.size[0] == pytest.approx(2.0, abs=1e-4)


def test_nearest_first_and_distance(street: SemanticMap) -> None:
    """From y = 20: the second car's nearest centre is at y = 11.7, 8.3 m away, the first's at 1.7, 18.3 m away."""
    place = np.array([2.1, 20.0, 0.7])
    matches = ask(street, query(["car"], background=BACKGROUND, position=place, order="nearest"), BANK)
    assert [match.distance for match in matches] == pytest.approx([8.3, 18.3], abs=1e-3)
    assert matches[0].last_seen == 101
    (far,) = ask(street, query(["car"], background=BACKGROUND, position=-place, order="nearest", limit=1), BANK)
    assert far.last_seen == 100
    assert np.isnan(ask(street, query(["car"], background=BACKGROUND), BANK)[0].distance)
    with pytest.raises(ValueError, match="nearest"):
        ask(street, query(["car"], background=BACKGROUND, order="nearest"), BANK)


def test_canonical_words_compete_where_nothing_else_does(street: SemanticMap) -> None:
    """A bank that knows "object": it competes when the vocabulary has only the word's own class."""
    bank = TextBank((*WORDS, "object"), np.vstack([TEXT, TEXT[:4].mean(0, keepdims=True)]), IDENTITY, logit_scale=10.0)
    alone = {"vehicle": ["car"]}
    matches = ask(street, query(["car"], background=alone, threshold=0.9), bank)
    assert [match.count for match in matches] == [1260, 1260]
    assert matches[0].score == pytest.approx(1 / (1 + np.exp(-5)), abs=1e-3), "the mean of four has a cosine of 0.5"


def test_threshold_and_best_first() -> None:
    """Three things, each less sure than the one before."""
    semantic_map = SemanticMap(0.2, np.eye(4, dtype=np.float32), IDENTITY, logit_scale=10.0)
    for number, mix in enumerate((0.1, 0.4, 0.49)):
        centres = block((0, 5.0 * number, 0), (5, 5, 5))
        feature = (1 - mix) * TEXT[0] + mix * TEXT[1]
        semantic_map.integrate(centres, np.tile(feature, (len(centres), 1)), 1)
    matches = ask(semantic_map, query(["car"], background=BACKGROUND), BANK)
    assert [round(match.centroid[1], 1) for match in matches] == [0.5, 5.5, 10.5]
    assert matches[0].score > matches[1].score > matches[2].score
    sure = ask(semantic_map, query(["car"], background=BACKGROUND, threshold=0.95), BANK)
    assert [match.score for match in sure] == pytest.approx([matches[0].score], abs=1e-4)


def test_what_is_likely_belongs_to_what_is_sure() -> None:
    """Less sure than the threshold, but likelier than all else: so part of what it touches."""
    semantic_map = SemanticMap(0.2, np.eye(4, dtype=np.float32), IDENTITY, logit_scale=10.0)
    sure, likely, less = TEXT[0], np.float32([0.35, 0.325, 0.325, 0]), 0.48 * TEXT[0] + 0.52 * TEXT[1]
    blocks = [(0.0, (1, 1, 5), sure), (0.2, (5, 5, 5), likely), (1.2, (3, 5, 5), less)]
    blocks += [(10.0, (1, 1, 4), sure), (10.2, (5, 5, 5), likely), (20.0, (5, 5, 5), likely)]
    for x, shape, feature in blocks:
        centres = block((x, 0, 0), shape)
        semantic_map.integrate(centres, np.tile(feature, (len(centres), 1)), 1)
    (match,) = ask(semantic_map, query(["car"], background=BACKGROUND), BANK)
    assert match.count == 5 + 125 and match.box.size[0] == pytest.approx(1.2, abs=1e-4)
    odds = 2 * np.exp(-10 * 0.025 / np.sqrt(0.35**2 + 2 * 0.325**2))
    assert match.score == pytest.approx((5 / (1 + 2 * np.exp(-10)) + 125 / (1 + odds)) / 130, abs=5e-3)
    (match,) = ask(semantic_map, query(["car"], background=BACKGROUND, min_voxels=5, extent=1.0), BANK)
    assert match.count == 5
    assert len(ask(semantic_map, query(["car"], background=BACKGROUND, min_sure=4), BANK)) == 2


def test_noise_is_no_match(street: SemanticMap) -> None:
    street.integrate(block((50, 0, 0), (3, 3, 1)), np.tile(TEXT[0], (9, 1)), 1)
    assert len(ask(street, query(["car"], background=BACKGROUND, min_voxels=10), BANK)) == 2
    assert len(ask(street, query(["car"], background=BACKGROUND, min_voxels=9), BANK)) == 3


def test_what_was_seen_once_may_have_moved(street: SemanticMap) -> None:
    asked = query(["car"], background=BACKGROUND, min_observations=2)
    assert ask(street, asked, BANK) == []
    centres = THINGS["car"][1]
    street.integrate(centres, np.tile(TEXT[0], (len(centres), 1)), stamp=200)
    (match,) = ask(street, asked, BANK)
    assert match.last_seen == 200 and match.count == len(centres)


def test_narrow_scores_are_those_of_the_wide_features() -> None:
    """With a random head W the answer must be that of z W, computed plainly."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(6, 4)).astype(np.float32)
    semantic_map = SemanticMap(0.2, W, IDENTITY, logit_scale=10.0)
    centres, features = block((0, 0, 0), (10, 10, 10)), rng.normal(size=(1000, 6)).astype(np.float32)
    semantic_map.integrate(centres, features, 1)
    wide = features @ W
    cosine = (wide / np.linalg.norm(wide, axis=1, keepdims=True)) @ BANK.embed(["car", "tree", "road"]).T
    probability = np.exp(10 * cosine[:, 0]) / np.exp(10 * cosine).sum(1)
    asked = query(["car"], background=BACKGROUND, threshold=0.6, extent=1.0, gap=9.0, vertical_gap=9.0)
    (match,) = ask(semantic_map, asked, BANK)
    sure = (probability > 0.61).sum(), (probability > 0.59).sum()
    assert 0.97 * sure[0] <= match.count <= sure[1] and sure[0] > 200
    assert match.score == pytest.approx(probability[probability >= 0.6].mean(), abs=5e-3)


def test_what_cannot_be_answered_says_why(street: SemanticMap) -> None:
    with pytest.raises(UnknownWordError, match="zebra"):
        ask(street, query(["zebra"], background=BACKGROUND), BANK)
    with pytest.raises(UnknownWordError, match="no word"):
        ask(street, query([]), BANK)
    with pytest.raises(UnknownWordError, match="no word"):
        ask(street, query(["car", " "]), BANK)
    with pytest.raises(UnknownWordError, match="nothing to tell 'car' from"):
        ask(street, query(["car"], background={"vehicle": ["car"]}), BANK)
    other = TextBank(WORDS, TEXT, EncoderIdentity("other", "test", 4))
    with pytest.raises(IdentityError, match=r"tiny/test/4.*words.*other/test/4"):
        ask(street, query(["car"], background=BACKGROUND), other)


def test_empty_map_finds_nothing() -> None:
    semantic_map = SemanticMap(0.2, np.eye(4, dtype=np.float32), IDENTITY)
    assert ask(semantic_map, query(["car"], background=BACKGROUND), BANK) == []


def test_labels_follow_the_map(street: SemanticMap) -> None:
    vocabulary = Vocabulary.from_words({"thing": ["car", "tree"], "ground": ["road"]}, BANK)
    labels = MapLabels(street, vocabulary)
    labelled = labels.update()
    assert len(labelled.centres) == len(street)
    np.testing.assert_array_equal(labelled.label == 1, labelled.centres[:, 2] < 0)
    assert (labelled.probability > 0.9).all()
    new = block((60, 0, 5), (2, 2, 2))
    street.integrate(new, np.tile(TEXT[2], (8, 1)), 200)
    again = labels.update()
    assert len(again.centres) == len(labelled.centres) + 8
    assert (again.label[again.centres[:, 0] > 55] == 1).all()


def test_labels_refuse_another_encoder(street: SemanticMap) -> None:
    other = TextBank(WORDS, TEXT, EncoderIdentity("other", "test", 4))
    with pytest.raises(IdentityError):
        MapLabels(street, Vocabulary.from_words(["car"], other))
