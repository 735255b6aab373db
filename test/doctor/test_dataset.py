"""Frames that are in no bag: what is good and wrong with them is found as it is in a bag's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from faulty_bags import CAMERA, LIDAR, OPTICAL, SCANS, Drive, S, base
from scipy.spatial.transform import Rotation

from ov3d_perception.doctor import calibration
from ov3d_perception.doctor.dataset import examine_dataset
from ov3d_perception.doctor.drives import drives_of, look
from ov3d_perception.doctor.report import Finding, Report, Severity
from ov3d_perception.errors import DatasetError, TransformError
from ov3d_perception.types import Frame, Scan, Sweep, View

Alter = Callable[[int, Frame], Frame]


class Frames(Sequence[Frame]):
    """The drive's frames as a data set has them."""

    def __init__(self, drive: Drive, alter: Alter = lambda number, frame: frame, mount: np.ndarray = OPTICAL) -> None:
        self.drive, self.alter, self.mount = drive, alter, mount

    def __len__(self) -> int:
        return SCANS

    def __getitem__(self, number: int) -> Frame:  # type: ignore[override]
        columns, stamp, T = self.drive.scans[number], number * S // 10, base(number / 10)
        xyz = np.stack([columns[axis] for axis in "xyz"], axis=1)
        scan = Scan(xyz, np.full(len(xyz), 0.2, np.float32), ring=columns["ring"].astype(np.int32), stamp=stamp)
        view = View(CAMERA, T @ self.mount, self.drive.pictures[number], stamp)
        return self.alter(number, Frame(f"a/{number:06}", (Sweep(scan, T @ LIDAR),), (view,)))


def of(report: Report, check: str) -> Finding:
    return next(finding for finding in report.findings if finding.check == check)


def test_good_frames_have_no_warning(drive: Drive) -> None:
    report = examine_dataset(Frames(drive), "a")
    assert report.worst <= Severity.UNKNOWN, str(report)
    assert of(report, "calibration").figures["frames"] == SCANS
    assert "delay_s" in of(report, "calibration").figures  # the frames' own poses tell the motion
    assert {"density", "points in view", "teaching"} <= {finding.check for finding in report.findings}


def test_a_turned_camera_is_measured(drive: Drive) -> None:
    turned = OPTICAL.copy()
    turned[:3, :3] = OPTICAL[:3, :3] @ Rotation.from_euler("y", 2, degrees=True).as_matrix()
    found = of(examine_dataset(Frames(drive, mount=turned), "a"), "calibration")
    assert found.severity is Severity.ERROR
    assert found.figures["turn_deg"]["value"][1] == pytest.approx(2, abs=0.4)


def test_frames_that_cannot_be_read_are_counted_and_none_is_an_error(drive: Drive) -> None:
    def damaged(number: int, frame: Frame) -> Frame:
        if number % 2:
            raise DatasetError(f"{number} is damaged", "Copy it again")
        return frame

    def gone(number: int, frame: Frame) -> Frame:
        raise DatasetError("gone", "Copy it again")

    report = examine_dataset(Frames(drive, damaged), "a")
    assert of(report, "frames").severity is Severity.WARNING
    assert f"{SCANS // 2} frames cannot be read: 1 is damaged" in of(report, "frames").what
    assert examine_dataset(Frames(drive, gone), "a").exit_code == 3


def test_drives_are_told_apart_and_each_has_its_own_lines(drive: Drive) -> None:
    def in_two(number: int, frame: Frame) -> Frame:
        return replace(frame, name=f"{'ab'[number >= SCANS // 2]}/{number}")

    report = examine_dataset(Frames(drive, in_two), "both", frames=4)
    subjects = [finding.subject for finding in report.findings if finding.check == "teaching"]
    assert subjects == ["a scans", "b scans"]


def test_a_further_check_is_asked(drive: Drive) -> None:
    asked = Finding(Severity.WARNING, "teacher", "CLIP", "not sure")
    assert examine_dataset(Frames(drive), "a", 2, lambda source: [asked]).findings[0] == asked


def test_poses_are_those_of_the_scans_around_and_far_away_there_are_none(drive: Drive) -> None:
    found, problems = look(Frames(drive), 3)
    assert problems == [] and [len(one.frames) for one in found.values()] == [3]
    one = found["a"]
    assert sorted(one.track) == [n * S // 10 for n in (0, 1, 10, 11, 12, 22, 23)]
    halfway = one.pose_at(int(10.5 * S / 10))
    assert halfway[:3, 3] == pytest.approx([5.25, 0, 1.8])  # 5 m/s
    assert one.pose_at(-S // 20)[:3, 3] == pytest.approx([-0.25, 0, 1.8])
    for stamp in (-S, int(0.5 * S), 60 * S):
        with pytest.raises(TransformError):
            one.pose_at(stamp)


def test_a_turned_camera_without_poses_may_be_motion(drive: Drive) -> None:
    """Then it is a warning, and what tells the two apart is named."""
    turned = OPTICAL.copy()
    turned[:3, :3] = OPTICAL[:3, :3] @ Rotation.from_euler("y", 2, degrees=True).as_matrix()

    def unplaced(number: int, frame: Frame) -> Frame:
        world = np.linalg.inv(frame.sweeps[0].T_world_lidar)
        views = tuple(replace(view, T_world_camera=world @ view.T_world_camera) for view in frame.views)
        return replace(frame, sweeps=(replace(frame.sweeps[0], T_world_lidar=np.eye(4)),), views=views)

    found = of(examine_dataset(Frames(drive, unplaced, turned), "a"), "calibration")
    assert found.severity is Severity.WARNING
    assert "the robot moved" in found.what and "ov3d bag odometry" in found.do


def test_one_scan_has_a_place_and_tells_no_motion(drive: Drive) -> None:
    frame = Frames(drive)[0]
    one = drives_of([frame])["a"]
    assert one.placed
    with pytest.raises(TransformError):
        one.pose_at(0)
    assert not drives_of([replace(frame, sweeps=(replace(frame.sweeps[0], T_world_lidar=np.eye(4)),))])["a"].placed


def test_further_frames_are_read_only_where_the_first_do_not_tell_a_calibration(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, read = Frames(drive), list[int]()

    def further() -> Iterator[Frame]:
        for number in range(3, SCANS):
            read.append(number)
            yield frames[number]

    first = [frames[number] for number in range(3)]
    few, both = calibration.check(first), calibration.check(first, None, further())
    assert few[0].severity is Severity.UNKNOWN
    assert read == list(range(3, SCANS))
    assert both[0].figures["points"] > few[0].figures["points"]
    good = Finding(Severity.GOOD, calibration.CHECK, "front", "the calibration is right")
    monkeypatch.setattr(calibration, "judge", lambda *_: good)
    assert calibration.check(first, None, further()) == [good]
    assert read == list(range(3, SCANS))
