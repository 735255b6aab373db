"""What the doctor's answer means for learning: an error, a doubt, or a note."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ov3d_perception.doctor.calibration import CHECK
from ov3d_perception.doctor.examine import Examination
from ov3d_perception.doctor.report import Finding, Report, Severity
from ov3d_perception.learning import bags
from ov3d_perception.learning.bags import Advice, consult, taught_of, window_of, with_images


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


@pytest.mark.parametrize(
    ("scans", "period", "expected"), [(450, 0.1, 5), (450, 0.05, 5), (450, 0.2, 2), (1000, 0.1, 1), (9000, 0.1, 0)]
)
def test_images_within_half_a_second_of_a_scan_that_teaches(scans: int, period: float, expected: int) -> None:
    """Of 9000 scans each 36th teaches: 3.6 s lie between them."""
    about = {"scans": scans, "with images": 1.0, "period": period}
    assert window_of(about, 200) == expected
    assert window_of({**about, "period": 0.0}, 200) == 0


@pytest.mark.parametrize("scans", [100, 250, 450, 499, 500, 750, 9000])
def test_as_many_scans_teach_as_were_asked_for_and_fewer_than_twice_as_many(scans: int) -> None:
    """As the help of `ov3d learn --frames` says."""
    taught = taught_of({"scans": scans, "with images": 1.0}, 200)
    assert min(200, 0.8 * scans) <= taught < 400


@pytest.mark.parametrize("count", [0, 1, 24, 30, 99])
def test_frames_with_images_are_spread_over_all_of_a_stretch(count: int) -> None:
    """Of 36 frames the first 24 would be of eight of twelve drives."""
    frames = [SimpleNamespace(views=(1,)) for _ in range(36)]
    found = list(with_images(frames, count).indices)  # type: ignore[arg-type]
    assert len(found) == min(count, 36)
    assert all(np.diff(found) <= -(-36 // max(count, 1))) and (not found or found[-1] >= 35 - 36 // count)


def test_the_period_is_that_of_the_scans_not_of_those_that_were_looked_at() -> None:
    assert bags._period({0: 5_000_000_000, 10: 6_000_000_000, 40: 9_000_000_000}) == pytest.approx(0.1)
    assert bags._period({3: 7}) == bags._period({0: 5, 4: 5}) == bags._period({0: 9, 4: 5}) == 0.0
