"""Scores of the demo on clouds whose answers are known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.demo.score import LabelledScan, look_into, score_labels
from ov3d_perception.demo.truth import TrueScan
from ov3d_perception.geometry.boxes import Box
from ov3d_perception.types import UNLABELLED, Scan

NAMES = ("road", "car")
XYZ = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [10, 0, 0]], np.float32)


def true_scan(labels: list[int]) -> TrueScan:
    scan = Scan(XYZ, np.zeros(4, np.float32), stamp=7)
    return TrueScan(scan, np.array(labels, np.int32), XYZ + np.float32(100), np.eye(4))


def labelled(labels: list[int], stamp: int = 7) -> LabelledScan:
    count = len(labels)
    return LabelledScan(stamp, XYZ[:count], np.array(labels, np.int32), np.ones(count, np.float32))


def test_scores_by_hand() -> None:
    # truth road road car car, predicted road car car unlabelled: IoU road 1/2, car 1/3
    scores = score_labels([labelled([0, 1, 1, UNLABELLED])], {7: true_scan([0, 0, 1, 1])}, NAMES)
    assert scores.iou == pytest.approx({"road": 1 / 2, "car": 1 / 3})
    assert scores.miou == pytest.approx(5 / 12)
    assert scores.points == 4


def test_scans_without_truth_are_left_out() -> None:
    truth = {7: true_scan([0, 0, 1, 1])}
    unknown_stamp, other_length = labelled([1, 1, 1, 1], stamp=8), labelled([1, 1, 1])
    assert score_labels([unknown_stamp, other_length], truth, NAMES).points == 0


def test_a_box_tells_its_majority_in_the_map() -> None:
    truth = {7: true_scan([1, 1, 0, UNLABELLED])}
    three, none = np.array([101.0, 100, 100]), np.array([0.0, 0, 0])
    boxes = [Box(three, np.array([2.2, 1, 1]), 0.0), Box(none, np.ones(3), 0.0)]
    car, nothing = look_into(boxes, truth, NAMES)
    assert (car.majority, car.points) == ("car", 3)
    assert car.share == pytest.approx(2 / 3)
    assert (nothing.majority, nothing.points, nothing.share) == ("nothing", 0, 0.0)
