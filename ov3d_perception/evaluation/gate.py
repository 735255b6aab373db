"""The gate between a trained network and a robot: accept it, refuse it with reasons, or ask a person.

A candidate must be better where it was made for and no worse elsewhere. It is held against the network that runs, on
the same frames (:mod:`compare`): a stretch of the new recording that it was not trained on, frames kept from older
ones, and, for networks of the simulated street, streets that none of them has seen. Every rule has one number, in
:class:`GateSpec`, and speaks for itself in the reasons.

Scores of some frames are known to a few points only, so each change of mean IoU comes with an interval
(:mod:`significance`). A loss refuses the candidate where it is surely too large; it is accepted where all old places
together have surely not lost too much; between the two the gate is not sure, names the places that more frames would
tell about, and in the end asks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ov3d_perception.evaluation.compare import Comparison
from ov3d_perception.evaluation.significance import Change
from ov3d_perception.ledger import ACCEPTED, ASK, REJECTED
from ov3d_perception.types import WordEmbeddings


@dataclass(frozen=True)
class GateSpec:
    """What counts. All are differences of shares or scores in [0, 1].

    gain: least gain of agreement with the sure teacher on the new place (mean IoU); less is a question, and so is a
    gain that may as well be a loss. loss: greatest loss of mean IoU, by labels or, without them, by agreement: surely
    more on any place is refused, not surely less on the mean of all old ones is a question.
    passes: greatest loss of agreement with itself. absent: greatest growth of what absent words find. calibration:
    greatest growth of the error of its probabilities. sure: least share of points in view where the teacher is sure.
    collapse: a class that had a hundredth of the sure teacher's points must keep this part of its share, or be better
    found where the teacher is sure: one that was seen where it is not may shrink. found: IoU with the sure teacher from
    which on a class was found at all; of one that was not, nothing can be lost.
    teacher: least accuracy of the sure teacher where there are labels; below, the teacher or its words are broken.
    sure_of: probability from which on the teacher is sure.
    """

    gain: float = 0.01
    loss: float = 0.02
    passes: float = 0.03
    absent: float = 0.02
    calibration: float = 0.10
    sure: float = 0.05
    collapse: float = 0.1
    found: float = 0.1
    teacher: float = 0.5
    sure_of: float = 0.6


@dataclass(frozen=True)
class Verdict:
    """verdict: ACCEPTED, REJECTED or ASK. reasons: the decisive ones first. figures: by name, of all places.

    unsure: places of which more frames may change the verdict; none where it is REJECTED.
    """

    verdict: str
    reasons: tuple[str, ...]
    figures: dict[str, float]
    unsure: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Finding:
    level: str
    text: str
    unsure: tuple[str, ...] = ()


def judge(
    places: Sequence[Comparison],
    spec: GateSpec | None = None,
    changed: Mapping[str, float] | None = None,
    together: Change | None = None,
    doubts: Sequence[str] = (),
) -> Verdict:
    """The verdict on a candidate. Any reason to refuse it decides; else any question; else it is accepted.

    changed: words that the candidate means otherwise than the running network, with the cosine of their embeddings
    (:func:`changed_words`). together: the mean change over the old places (:func:`compare.change_together`). doubts:
    about what it learned from; each is a question.
    """
    spec = spec or GateSpec()
    found = [finding for place in places for finding in _findings(place, spec)]
    if together is not None:
        found.append(_lost(together, [place.name for place in places if not place.new], spec))
    if changed:
        found.append(_Finding(REJECTED, f"Its words are not those of the running network: {listed(changed)}"))
    if not any(place.new for place in places):
        found.append(_Finding(ASK, "Nothing was measured on the new place"))
    found += [_Finding(ASK, doubt) for doubt in doubts]
    for level in (REJECTED, ASK):
        decisive = [finding for finding in found if finding.level == level]
        if decisive:
            unsure = {name: None for finding in decisive for name in finding.unsure if level == ASK}
            reasons = tuple(finding.text for finding in decisive)
            return Verdict(level, reasons, figures(places, together), tuple(unsure))
    return Verdict(ACCEPTED, tuple(finding.text for finding in found), figures(places, together))


def _findings(place: Comparison, spec: GateSpec) -> Iterator[_Finding]:
    before, after, name = place.before, place.after, place.name
    if place.new and not math.isnan(place.sure) and place.sure < spec.sure:
        yield _Finding(
            REJECTED,
            f"{name}: the teacher is sure of {_percent(place.sure)} of the points in view only. A camera may be dark "
            "or covered, or the words may be none of this place",
        )
    if place.teacher is not None and place.teacher.accuracy < spec.teacher:
        yield _Finding(
            REJECTED,
            f"{name}: the teacher, where it is sure, is right on {_percent(place.teacher.accuracy)} of the labelled "
            "points only. Its words or its weights are not what they were",
        )
    for what, change in place.changes.items():
        yield _scored(place, what, change, spec)
    if place.new and after.agreement.points:
        yield from _collapsed(place, spec)
    if _fell(before.passes, after.passes, spec.passes):
        yield _Finding(
            REJECTED,
            f"{name}: over several passes it contradicts itself more often (agreement {before.passes:.3f}, now "
            f"{after.passes:.3f})",
        )
    if _fell(-before.absent, -after.absent, spec.absent):
        yield _Finding(
            REJECTED,
            f"{name}: it finds what is not there (giraffes and the like) at {_percent(after.absent)} of the points, "
            f"before {_percent(before.absent)}",
        )
    if _fell(-before.calibration, -after.calibration, spec.calibration):
        yield _Finding(
            ASK,
            f"{name}: its probabilities are less honest (calibration error {before.calibration:.3f}, now "
            f"{after.calibration:.3f})",
        )


def _scored(place: Comparison, what: str, change: Change, spec: GateSpec) -> _Finding:
    text = f"{place.name}: {what} {change.before:.3f}, now {change.after:.3f} ({_points(change)})"
    if change.high < -spec.loss:
        return _Finding(REJECTED, text)
    if place.new and change.gain < spec.gain:
        return _Finding(ASK, f"{text}: no gain to speak of", (place.name,) if change.high >= spec.gain else ())
    if place.new and change.low <= 0:
        return _Finding(ASK, f"{text}: whether that is a gain is not sure", (place.name,))
    return _Finding(ACCEPTED, text)


def _lost(together: Change, old: Sequence[str], spec: GateSpec) -> _Finding:
    text = f"What it knew before ({', '.join(old)}): mIoU {_points(together)}"
    if together.high < -spec.loss:
        return _Finding(REJECTED, text)
    if together.low <= -spec.loss:
        return _Finding(ASK, f"{text}: that it lost no more than {100 * spec.loss:.0f} points is not sure", tuple(old))
    return _Finding(ACCEPTED, text)


def _points(change: Change) -> str:
    return f"{100 * change.gain:+.1f} points, surely between {100 * change.low:+.1f} and {100 * change.high:+.1f}"


def _collapsed(place: Comparison, spec: GateSpec) -> Iterator[_Finding]:
    for name, share in place.after.agreement.share.items():
        was, now = place.before.share.get(name, 0.0), place.after.share.get(name, 0.0)
        found, finds = (one.agreement.iou.get(name, 0.0) for one in (place.before, place.after))
        if share >= 0.01 and was >= 0.005 and now < spec.collapse * was and found >= max(spec.found, finds):
            yield _Finding(
                ASK, f"{place.name}: hardly any {name} is left ({_percent(was)} of the points, now {_percent(now)})"
            )


def _fell(was: float, now: float, by: float) -> bool:
    return not math.isnan(was) and not math.isnan(now) and now < was - by


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def changed_words(before: WordEmbeddings | None, after: WordEmbeddings | None, least: float = 0.95) -> dict[str, float]:
    """Words that both know and whose embeddings have a smaller cosine than ``least``: another encoder's, or mixed."""
    if before is None or after is None or before.embeddings.shape[1] != after.embeddings.shape[1]:
        return {}
    known = dict(zip(before.words, _unit(before.embeddings), strict=True))
    pairs = zip(after.words, _unit(after.embeddings), strict=True)
    cosines = {word: float(known[word] @ embedding) for word, embedding in pairs if word in known}
    return {word: cosine for word, cosine in cosines.items() if cosine < least}


def listed(changed: Mapping[str, float]) -> str:
    """A few of the words that :func:`changed_words` found, for people."""
    return ", ".join(f"{word} (cosine {cosine:.2f})" for word, cosine in sorted(changed.items())[:5])


def _unit(rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def figures(places: Sequence[Comparison], together: Change | None = None) -> dict[str, float]:
    """All numbers, flat, for the ledger; those that could not be measured are left out."""
    table: dict[str, float] = {}
    if together is not None:
        table |= {"old places: mIoU, least change": together.low, "old places: mIoU, greatest change": together.high}
    for place in places:
        for when, measures in (("before", place.before), ("after", place.after)):
            table[f"{place.name}: passes, {when}"] = measures.passes
            table[f"{place.name}: absent, {when}"] = measures.absent
            table[f"{place.name}: calibration error, {when}"] = measures.calibration
            if measures.agreement.points:
                table[f"{place.name}: agreement mIoU, {when}"] = measures.agreement.miou
            if measures.labels is not None:
                table[f"{place.name}: mIoU, {when}"] = measures.labels.miou
        table[f"{place.name}: teacher sure"] = place.sure
    return {name: round(value, 4) for name, value in table.items() if not math.isnan(value)}
