"""The gate's verdicts: each rule alone, with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ov3d_perception.evaluation.compare import Comparison, Measures
from ov3d_perception.evaluation.gate import changed_words, judge
from ov3d_perception.evaluation.metrics import Scores
from ov3d_perception.ledger import ACCEPTED, ASK, REJECTED
from ov3d_perception.types import WordEmbeddings


def scores(miou: float, **share: float) -> Scores:
    return Scores(miou, miou, miou, 1000, {}, share)


def measures(agreement: float, labels: float | None = None, **changes: Any) -> Measures:
    share = {"car": 0.1, "road": 0.9}
    found = Measures(scores(agreement, **share), 0.9, share, 0.01, 0.1, None if labels is None else scores(labels))
    return replace(found, **changes)


def place(before: Measures, after: Measures, new: bool = True, **changes: Any) -> Comparison:
    found = Comparison("new place" if new else "old place", new, 20, 0.6, None, before, after)
    return replace(found, **changes)


GOOD = place(measures(0.4), measures(0.5))
CASES = {
    "no gain": (place(measures(0.4), measures(0.405)), ASK, "no gain"),
    "worse than its teacher": (place(measures(0.5), measures(0.4)), REJECTED, "agreement with the sure teacher"),
    "worse by labels": (place(measures(0.4, 0.5), measures(0.6, 0.45)), REJECTED, "mIoU by labels 0.500, now 0.450"),
    "contradicts itself": (place(measures(0.4), measures(0.5, passes=0.8)), REJECTED, "contradicts itself"),
    "finds giraffes": (place(measures(0.4), measures(0.5, absent=0.2)), REJECTED, "what is not there"),
    "dishonest": (place(measures(0.4), measures(0.5, calibration=0.4)), ASK, "less honest"),
    "a class is gone": (place(measures(0.4), measures(0.5, share={"car": 0.0, "road": 1.0})), ASK, "hardly any car"),
    "a dark camera": (replace(GOOD, sure=0.01), REJECTED, "dark"),
    "a broken teacher": (replace(GOOD, teacher=scores(0.2)), REJECTED, "the teacher, where it is sure"),
}


def test_better_where_it_was_made_for_and_no_worse_elsewhere() -> None:
    verdict = judge([GOOD, place(measures(0.5, 0.60), measures(0.5, 0.59), new=False)])
    assert verdict.verdict == ACCEPTED
    assert "new place: agreement with the sure teacher (mIoU) 0.400, now 0.500 (+10.0 points)" in verdict.reasons
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
        "old place: mIoU by labels 0.600, now 0.550 (-5.0 points)",
    )


def test_a_refusal_goes_before_a_question() -> None:
    assert judge([CASES["no gain"][0], replace(CASES["worse by labels"][0], new=False)]).verdict == REJECTED


def test_without_the_new_place_a_person_is_asked() -> None:
    assert judge([replace(GOOD, new=False)]).verdict == ASK


def test_mixed_up_words_are_noticed() -> None:
    words, rows = ("car", "tree", "road"), np.eye(3, dtype=np.float32)
    before, swapped = WordEmbeddings(words, rows), WordEmbeddings(words, 2 * rows[[1, 0, 2]])
    assert changed_words(before, WordEmbeddings((*words, "sky"), np.eye(4, 3, dtype=np.float32))) == {}
    assert set(changed_words(before, swapped)) == {"car", "tree"}
    assert changed_words(before, None) == changed_words(None, before) == {}
    verdict = judge([GOOD], changed=changed_words(before, swapped))
    assert verdict.verdict == REJECTED and "car (cosine 0.00)" in verdict.reasons[0]
