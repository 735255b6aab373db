"""Sources mixed into one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from colour_scene import Walls

from ov3d_perception.datasets.registry import SOURCES, open_dataset
from ov3d_perception.datasets.source import FrameSource
from ov3d_perception.errors import DatasetError
from ov3d_perception.lifting.nearby import drive_of
from ov3d_perception.types import Preparation


class Plain(Walls):
    """Frames without labels, prepared otherwise."""

    preparation = Preparation(deskew=True)

    def __init__(self, root, **options):
        super().__init__(root, **options)
        self.labelset = None


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(SOURCES, "walls", ("colour_scene", "Walls"))
    monkeypatch.setitem(SOURCES, "plain", (__name__, "Plain"))


def mixed(*sources) -> FrameSource:
    return open_dataset("mixed", "somewhere", sources=sources)


def test_frames_come_source_by_source_thinned_and_repeated():
    source = mixed(
        {"dataset": "walls", "root": "a", "options": {"frames": 2}, "repeat": 2},
        {"dataset": "walls", "root": "b", "options": {"frames": 5, "first": 10}, "every": 2},
    )
    names = [frame.name for frame in source]
    first, second = ["0-walls/a/000000", "0-walls/a/000001"], [f"1-walls/a/00000{i}" for i in (0, 2, 4)]
    assert names == first * 2 + second and len(source) == 7
    np.testing.assert_array_equal(source[5].sweeps[0].scan.xyz, Walls("", first=10, frames=5)[2].sweeps[0].scan.xyz)
    np.testing.assert_array_equal(source[5].labels, Walls("", first=10, frames=5)[2].labels)
    assert source.sequences == ("0-walls/a", "1-walls/a") and source.labelset.names == ("red", "green")


def test_a_pattern_stands_for_all_that_it_matches(tmp_path):
    for name in ("b1", "a", "b0"):
        (tmp_path / name).mkdir()
    one = {"dataset": "walls", "options": {"frames": 1}, "repeat": 2}
    source = open_dataset("mixed", str(tmp_path), sources=[{**one, "root": "a"}, {**one, "root": "b?"}])
    assert [frame.name[0] for frame in source] == ["0", "0", "1", "1", "2", "2"]
    assert len({drive_of(frame) for frame in source}) == 3
    opened = [Path(str(walls.root)).name for walls in source._sources]
    assert opened == ["a", "b0", "b1"]
    with pytest.raises(DatasetError, match=r"Nothing matches .*c\*"):
        open_dataset("mixed", str(tmp_path), sources=[{**one, "root": "c*"}])


def test_no_frame_is_a_neighbour_of_another_sources():
    source = mixed(
        {"dataset": "walls", "root": "", "options": {"frames": 2}},
        {"dataset": "walls", "root": "", "options": {"frames": 2}},
    )
    assert len({drive_of(frame) for frame in source}) == 2  # though both are called "a"


def test_labels_of_some_are_labels_of_none_and_the_first_says_how_clouds_are_prepared():
    source = mixed({"dataset": "plain", "root": ""}, {"dataset": "walls", "root": ""})
    assert source.labelset is None and all(frame.labels is None for frame in source)
    assert source.preparation == Preparation(deskew=True)


def test_losses_are_those_of_all_sources():
    lossy = {"dataset": "walls", "root": "", "options": {"sweeps": 2, "lossy": [0]}}
    source = mixed(lossy, lossy)
    list(source)
    assert dict(source.left_out) == {"missing sweep": 2}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "no sources"),
        (["walls"], "no sources"),
        ([{"dataset": "walls"}], "lacks"),
        ([{"dataset": "walls", "root": "", "weight": 2}], "no field ['weight']"),
        ([{"dataset": "walls", "root": "", "every": 0}], "every: 0"),
        ([{"dataset": "walls", "root": "", "options": {"colour": 1}}], "colour"),
    ],
)
def test_a_wrong_mix_is_refused_by_name(sources, message):
    with pytest.raises(DatasetError, match=re.escape(message)):
        mixed(*sources)
