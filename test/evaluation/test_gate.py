"""The gate's verdicts: each rule alone, with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ov3d_perception.evaluation import significance
from ov3d_perception.evaluation.compare import BY_LABELS, BY_TEACHER, Comparison, Measures
from ov3d_perception.evaluation.gate import changed_words, judge
from ov3d_perception.evaluation.metrics import Scores
from ov3d_perception.evaluation.significance import Change, Paired
from ov3d_perception.ledger import ACCEPTED, ASK, REJECTED
from ov3d_perception.types import WordEmbeddings


def scores(miou: float, **share: float) -> Scores:
    return Scores(miou, miou, miou, 1000, dict.fromkeys(share, miou), share)


def measures(agreement: float, labels: float | None = None, **changes: Any) -> Measures:
    share = {"car": 0.1, "road": 0.9}
    found = Measures(scores(agreement, **share), 0.9, share, 0.01, 0.1, None if labels is None else scores(labels))
    return replace(found, **changes)


def change(before: float, after: float, doubt: float = 0.005) -> Change:
    """doubt: half the interval."""
    return Change(before, after, after - before - doubt, after - before + doubt, 20)


def place(before: Measures, after: Measures, new: bool = True, doubt: float = 0.005, **fields: Any) -> Comparison:
    changes = {BY_TEACHER: change(before.agreement.miou, after.agreement.miou, doubt)} if new else {}
    if before.labels is not None and after.labels is not None:
        changes[BY_LABELS] = change(before.labels.miou, after.labels.miou, doubt)
    found = Comparison("new place" if new else "old place", new, 20, 0.6, None, before, after, changes)
    return replace(found, **fields)


GOOD = place(measures(0.4), measures(0.5))
NO_CARS = replace(
    measures(0.5), agreement=replace(scores(0.5, car=0.1, road=0.9), iou={"car": 0.0}), share={"car": 0.0, "road": 1.0}
)
CASES = {
    "no gain": (place(measures(0.4), measures(0.405)), ASK, "no gain"),
    "perhaps a gain": (place(measures(0.4), measures(0.42), doubt=0.03), ASK, "not sure"),
    "worse than its teacher": (place(measures(0.5), measures(0.4)), REJECTED, "agreement with the sure teacher"),
    "worse by labels": (place(measures(0.4, 0.5), measures(0.6, 0.45)), REJECTED, "mIoU by labels 0.500, now 0.450"),
    "contradicts itself": (place(measures(0.4), measures(0.5, passes=0.8)), REJECTED, "contradicts itself"),
    "finds giraffes": (place(measures(0.4), measures(0.5, absent=0.2)), REJECTED, "what is not there"),
    "dishonest": (place(measures(0.4), measures(0.5, calibration=0.4)), ASK, "less honest"),
    "a class is gone": (place(measures(0.4), NO_CARS), ASK, "hardly any car"),
    "a dark camera": (replace(GOOD, sure=0.01), REJECTED, "dark"),
    "a broken teacher": (replace(GOOD, teacher=scores(0.2)), REJECTED, "the teacher, where it is sure"),
}


def test_a_class_that_was_seen_where_it_is_not_may_shrink() -> None:
    """Nine tenths of the points were terrain, by mistake; now a fiftieth are, and more of the true ones among them. Of
    what was hardly found before, nothing is lost."""

    def of(agreement: float, terrain: float, iou: float) -> Measures:
        known = replace(scores(agreement, terrain=0.05, road=0.95), iou={"terrain": iou})
        return replace(measures(agreement), agreement=known, share={"terrain": terrain, "road": 1 - terrain})

    assert judge([place(of(0.1, 0.9, 0.02), of(0.5, 0.02, 0.3))]).verdict == ACCEPTED
    assert judge([place(of(0.1, 0.9, 0.09), of(0.5, 0.02, 0.01))]).verdict == ACCEPTED
    worse = judge([place(of(0.1, 0.9, 0.1), of(0.5, 0.02, 0.01))])
    assert worse.verdict == ASK and "hardly any terrain" in str(worse.reasons)


def test_better_where_it_was_made_for_and_no_worse_elsewhere() -> None:
    verdict = judge([GOOD, place(measures(0.5, 0.60), measures(0.5, 0.59), new=False)])
    assert verdict.verdict == ACCEPTED
    gained = "agreement with the sure teacher (mIoU) 0.400, now 0.500 (+10.0 points, surely between +9.5 and +10.5)"
    assert f"new place: {gained}" in verdict.reasons
    assert verdict.figures["old place: mIoU, after"] == 0.59 and verdict.figures["new place: teacher sure"] == 0.6


@pytest.mark.parametrize(("case", "expected", "words"), CASES.values(), ids=CASES)
def test_each_rule_speaks_for_itself(case: Comparison, expected: str, words: str) -> None:
    verdict = judge([case])
    assert verdict.verdict == expected
    assert any(words in reason for reason in verdict.reasons), verdict.reasons


def test_what_is_forgotten_decides_over_what_is_gained() -> None:
    forgotten = place(measures(0.5, 0.60), measures(0.5, 0.55), new=False)
    verdict = judge([GOOD, forgotten])
    assert verdict.verdict == REJECTED and verdict.reasons == (
        "old place: mIoU by labels 0.600, now 0.550 (-5.0 points, surely between -5.5 and -4.5)",
    )


OLD = place(measures(0.5, 0.6), measures(0.5, 0.6), new=False)


def test_a_loss_that_may_be_chance_refuses_nothing_but_is_not_accepted_either() -> None:
    """3 points lost, give or take 4: as may be with a dozen frames."""
    unsure = place(measures(0.5, 0.60), measures(0.5, 0.57), new=False, doubt=0.04)
    verdict = judge([GOOD, unsure], together=change(0.6, 0.57, 0.04))
    assert verdict.verdict == ASK and verdict.unsure == ("old place",)
    assert "not sure" in verdict.reasons[0]
    more = judge([GOOD, unsure], together=change(0.6, 0.595, 0.01))  # the mean over all old places, after more frames
    assert more.verdict == ACCEPTED and more.unsure == ()
    assert more.figures["old places: mIoU, least change"] == pytest.approx(-0.015)


def test_what_all_old_places_lose_together_refuses_where_none_is_sure_alone() -> None:
    unsure = place(measures(0.5, 0.60), measures(0.5, 0.57), new=False, doubt=0.015)
    verdict = judge([GOOD, unsure, replace(unsure, name="older place")], together=change(0.6, 0.57, 0.009))
    assert verdict.verdict == REJECTED and verdict.reasons[0].startswith("What it knew before (old place, older place)")


def test_more_frames_are_asked_for_where_they_can_tell() -> None:
    """Not for a gain that is surely too small, nor for a candidate that is refused anyway."""
    assert judge([place(measures(0.4), measures(0.405), doubt=0.01)]).unsure == ("new place",)
    assert judge([place(measures(0.4), measures(0.405), doubt=0.001)]).unsure == ()
    unsure = change(0.6, 0.6, 0.1)
    assert judge([GOOD, OLD], together=unsure).unsure == ("old place",)
    assert judge([CASES["finds giraffes"][0], OLD], together=unsure).unsure == ()


@pytest.mark.parametrize("frames", [12, 70])
def test_a_truly_worse_candidate_never_gets_through_and_an_equal_one_is_never_refused(frames: int) -> None:
    """Hand-made frames of unlike difficulty: both get about 80 % right, or the candidate 72 %, ten points of IoU."""
    for seed in range(8):
        rng, pairs = np.random.default_rng(seed), {0.8: Paired(NAMES), 0.72: Paired(NAMES)}
        for frame in range(frames):
            truth, hard = rng.integers(0, 3, 500).astype(np.int32), rng.normal(0, 0.08)
            said = {share: _said(rng, truth, share + hard + rng.normal(0, 0.015)) for share in (0.8, 0.72)}
            before = _said(rng, truth, 0.8 + hard + rng.normal(0, 0.015))
            for share, after in said.items():
                pairs[share].add(str(frame), truth, before, after)
        equal, worse = (_verdict_on(pairs[share]) for share in (0.8, 0.72))
        assert worse == REJECTED
        assert equal == ACCEPTED or (equal == ASK and frames == 12)


NAMES = ("car", "road", "tree")


def _said(rng: np.random.Generator, truth: np.ndarray, right: float) -> np.ndarray:
    return np.where(rng.random(len(truth)) < right, truth, (truth + 1) % 3).astype(np.int32)


def _verdict_on(pairs: Paired) -> str:
    result = significance.change([pairs])
    assert result is not None
    return judge([GOOD, replace(OLD, changes={BY_LABELS: result})], together=result).verdict


def test_a_refusal_goes_before_a_question() -> None:
    assert judge([CASES["no gain"][0], replace(CASES["worse by labels"][0], new=False)]).verdict == REJECTED


def test_without_the_new_place_a_person_is_asked() -> None:
    assert judge([replace(GOOD, new=False)]).verdict == ASK


def test_a_doubt_about_the_recording_is_a_question() -> None:
    verdict = judge([GOOD], doubts=["drive: front: whether it is calibrated cannot be told"])
    assert verdict.verdict == ASK and verdict.reasons == ("drive: front: whether it is calibrated cannot be told",)


def test_mixed_up_words_are_noticed() -> None:
    words, rows = ("car", "tree", "road"), np.eye(3, dtype=np.float32)
    before, swapped = WordEmbeddings(words, rows), WordEmbeddings(words, 2 * rows[[1, 0, 2]])
    assert changed_words(before, WordEmbeddings((*words, "sky"), np.eye(4, 3, dtype=np.float32))) == {}
    assert set(changed_words(before, swapped)) == {"car", "tree"}
    assert changed_words(before, None) == changed_words(None, before) == {}
    verdict = judge([GOOD], changed=changed_words(before, swapped))
    assert verdict.verdict == REJECTED and "car (cosine 0.00)" in verdict.reasons[0]
