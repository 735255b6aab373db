"""What the doctor's answer means for learning: an error, a doubt, or a note."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ov3d_perception.doctor.calibration import CHECK
from ov3d_perception.doctor.examine import Examination
from ov3d_perception.doctor.report import Finding, Report, Severity
from ov3d_perception.learning import bags
from ov3d_perception.learning.bags import Advice, consult


def calibration(severity: Severity, **figures: Any) -> Finding:
    return Finding(severity, CHECK, "front", "turned", "because", "Turn it back", figures)


def apart(value: float) -> dict[str, Any]:
    return {"apart_deg": {"value": value, "sd": 0.5}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (calibration(Severity.GOOD, **apart(0.1)), Advice()),
        (calibration(Severity.ERROR, **apart(3.0)), Advice(errors=("front: turned. Turn it back",))),
        (calibration(Severity.UNKNOWN, **apart(0.3)), Advice(notes=("front: turned",))),
        (calibration(Severity.UNKNOWN, **apart(2.8)), Advice(doubts=("front: turned",))),
        (calibration(Severity.UNKNOWN, points=50), Advice(notes=("front: turned",))),
        (calibration(Severity.UNKNOWN, points=9000), Advice(doubts=("front: turned",))),
        (Finding(Severity.UNKNOWN, "clouds", "/points", "no point times"), Advice()),
    ],
)
def test_what_a_finding_means(found: Finding, expected: Advice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bags, "examine", lambda *_: Report("drive", (found,)))
    assert consult(Path("drive"), {}) == expected


def test_the_doctor_may_look_at_more_frames_of_what_was_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Examination] = []

    def examine(_: Path, how: Examination) -> Report:
        asked.append(how)
        return Report("drive", (calibration(Severity.UNKNOWN, **apart(0.1)),))

    monkeypatch.setattr(bags, "examine", examine)
    consult(Path("drive"), {"points": "/velodyne", "cameras": ["/front"]})
    assert [(how.points, how.cameras, how.frames, how.more) for how in asked] == [("/velodyne", ("/front",), 40, 160)]
