"""The report of what a network teaches itself, by hand."""

from __future__ import annotations

import torch

from ov3d_perception.training.label_watch import LabelWatch


def closed(watch: LabelWatch, *counts: int, changed: int = 0):
    """The report of an epoch with so many labels of each class, of which voting has changed some."""
    voted = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    label = voted.clone()
    label[:changed] = (label[:changed] + 1) % len(counts)
    half = len(voted) // 2
    watch.add(label[:half], voted[:half])
    watch.add(label[half:], voted[half:])
    return watch.close()


def test_shares_and_changes_of_an_epoch() -> None:
    report = closed(LabelWatch(["road", "car"]), 30, 10, changed=4)
    assert report.shares == {"road": 0.75, "car": 0.25} and report.changed == 0.1 and not report.warnings
    assert str(report) == "road 75.0 %, car 25.0 %; voting changed 10.0 %"
    assert report.metrics() == {"self: changed by voting": 0.1, "self: largest class": 0.75}


def test_one_class_of_all_is_told() -> None:
    watch = LabelWatch(["road", "car"])
    assert closed(watch, 91, 9).warnings == ("road is 91 % of all labels",)
    assert not closed(watch, 89, 11).warnings


def test_a_class_that_goes_is_told_and_one_that_never_was_is_not() -> None:
    watch = LabelWatch(["road", "car", "person"])
    assert not closed(watch, 800, 192, 8).warnings
    assert not closed(watch, 800, 200, 0).warnings
    (warning,) = closed(watch, 600, 10, 390).warnings
    assert warning == "car had 19.2 % of the labels in the first epoch and has 1.00 %"


def test_each_epoch_is_counted_by_itself_and_none_may_have_no_label() -> None:
    watch = LabelWatch(["road", "car"])
    closed(watch, 10, 10, changed=10)
    assert watch.shares() == [0.0, 0.0]
    report = closed(watch, 3, 1)
    assert report.shares == {"road": 0.75, "car": 0.25} and report.changed == 0.0
    assert LabelWatch(["road"]).close().shares == {"road": 0.0}
