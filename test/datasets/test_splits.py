"""Splits against nuScenes' published numbers, and the two meanings of 1 %."""

from __future__ import annotations

import pytest

from ov3d_perception.datasets.splits import (
    every_hundredth_frame,
    every_hundredth_scene,
    nuscenes_scenes,
    parse_seeds,
    ranges,
)
from ov3d_perception.errors import DatasetError


def test_ranges_have_both_ends():
    assert ranges("1-2, 4,\n 7-9") == (1, 2, 4, 7, 8, 9)
    assert ranges("") == ranges("5-4") == ()
    with pytest.raises(ValueError):
        ranges("1-b")


def test_seeds():
    assert parse_seeds("0-2, 1000") == (0, 1, 2, 1000)
    assert parse_seeds("1-3, 7") == (1, 2, 3, 7)
    assert parse_seeds([3, 4]) == (3, 4)
    assert parse_seeds(1010) == (1010,)
    for unreadable in ("a", "one", None, ["b"], 1.5):
        with pytest.raises(DatasetError, match=r"Seeds .* cannot be read"):
            parse_seeds(unreadable)
    for none in ("", "3-1", [-1], []):
        with pytest.raises(DatasetError, match=r"Seeds .* name none"):
            parse_seeds(none)


def test_nuscenes_has_a_thousand_scenes_in_three_splits():
    train, val, test = (nuscenes_scenes(split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (700, 150, 150)
    assert len({*train, *val, *test}) == 1000
    assert "scene-0061" in train and "scene-0103" in val and "scene-0077" in test
    assert train == tuple(sorted(train))


def test_the_mini_download_holds_ten_scenes_of_the_whole():
    assert nuscenes_scenes("mini_val") == ("scene-0103", "scene-0916")
    mini = {*nuscenes_scenes("mini_train"), *nuscenes_scenes("mini_val")}
    assert len(mini) == 10 and mini <= {*nuscenes_scenes("train"), *nuscenes_scenes("val")}


def test_slidr_divides_the_training_scenes():
    train, aside = nuscenes_scenes("slidr_train"), nuscenes_scenes("slidr_aside")
    assert len(train) == 600 and len(aside) == 100
    assert {*train, *aside} == {*nuscenes_scenes("train")}
    assert "scene-0008" in aside and "scene-1107" in aside


def test_an_unknown_split_is_refused_with_the_known_ones():
    with pytest.raises(DatasetError, match=r"'training'.*mini_train.*slidr_train"):
        nuscenes_scenes("training")


def test_one_percent_of_scenes_is_not_one_percent_of_frames():
    scenes = list(range(700))
    assert every_hundredth_scene(scenes) == [99, 199, 299, 399, 499, 599, 699]
    assert every_hundredth_scene(scenes[:99]) == []
    frames = every_hundredth_frame(list(range(28130)))
    assert frames[:2] == [0, 100] and len(frames) == 282
