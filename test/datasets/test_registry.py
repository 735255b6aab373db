"""Sources by name."""

from __future__ import annotations

import pytest

from ov3d_perception.datasets.registry import SOURCES, open_dataset
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import DatasetError
from ov3d_perception.types import Frame


def test_unknown_names_and_options_are_refused_with_the_known_ones(tmp_path):
    with pytest.raises(DatasetError, match="semantickitti"):
        open_dataset("kitti", tmp_path)
    with pytest.raises(DatasetError, match=r"'sweps'.*datasets.semantickitti"):
        open_dataset("semantickitti", tmp_path, sweps=3)


@pytest.mark.parametrize("name", ["semantickitti", "pandaset", "nuscenes_keyframe"])
def test_an_empty_folder_is_a_dataset_error(tmp_path, name):
    with pytest.raises(DatasetError, match="1 missing or inconsistent"):
        open_dataset(name, tmp_path)


def test_every_source_is_a_frame_source():
    from importlib import import_module

    for module, cls in SOURCES.values():
        assert issubclass(getattr(import_module(module), cls), FrameSource)


class Three(FrameSource):
    sequences = ("a",)

    def __len__(self) -> int:
        return 3

    def frame(self, index: int) -> Frame:
        return Frame(str(index), ())


def test_a_source_is_a_sequence():
    source = Three()
    assert [frame.name for frame in source] == ["0", "1", "2"]
    assert source[-1].name == "2"
    with pytest.raises(IndexError):
        source[3]
    with pytest.raises(IndexError):
        source[-4]


def test_all_problems_are_in_one_error(tmp_path):
    require(tmp_path, [], "nothing to do")
    with pytest.raises(DatasetError) as caught:
        require(tmp_path, ["a: missing", "b: too short"], "Download again")
    assert all(text in str(caught.value) for text in ("2 missing", "a: missing", "b: too short", "Download again"))
