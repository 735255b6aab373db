"""Colours are stable, known words alike in any spelling, unlabelled grey."""

from __future__ import annotations

import numpy as np

from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import UNLABELLED
from ov3d_perception.viz.palette import UNLABELLED_COLOUR, colour, colourise, colours


def test_spelling_does_not_matter_and_unknown_words_are_stable():
    assert colour("Traffic_Cone") == colour("traffic-cone") == colour("traffic cone")
    assert colour("fire hydrant") == colour("Fire Hydrant") == (130, 188, 235)
    assert colour("fire hydrant") != colour("giraffe")


def test_classes_of_the_main_label_set_can_be_told_apart():
    table = colours(LabelSet.load("nuscenes16").names).astype(int)
    distance = np.abs(table[:, None] - table[None]).sum(axis=2) + 999 * np.eye(16, dtype=int)
    assert distance.min() > 50


def test_labels_outside_the_classes_are_grey():
    rgb = colourise(np.array([1, 0, UNLABELLED, -1, 2], np.int32), ["car", "tree"])
    assert rgb.dtype == np.uint8
    assert rgb.tolist() == [list(c) for c in (colour("tree"), colour("car"), *[UNLABELLED_COLOUR] * 3)]
