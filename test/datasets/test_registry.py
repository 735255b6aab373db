"""Sources by name."""

from __future__ import annotations

import logging

import pytest

from ov3d_perception.datasets.registry import SOURCES, open_dataset, parse_options
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import BagError, DatasetError
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


def test_an_empty_folder_lacks_every_piece_of_nuscenes(tmp_path):
    with pytest.raises(DatasetError, match="16 missing or inconsistent"):  # 8 tables, 7 sensors, labels
        open_dataset("nuscenes", tmp_path)


def test_every_source_is_a_frame_source():
    from importlib import import_module

    for module, cls in SOURCES.values():
        assert issubclass(getattr(import_module(module), cls), FrameSource)


@pytest.mark.parametrize(
    ("name", "option", "said"),
    [
        (
            "pandaset",
            "sequences=[001, 040]",
            r"sequences is \[1, 32\], not Sequence\[str\] \| None.*'001'",
        ),  # YAML's octal
        ("semantickitti", "sequences=00", "sequences is 0, not Sequence"),
        ("semantickitti", "sequences='00'", "sequences is '00', not Sequence"),
        ("semantickitti", "sweeps=three", "sweeps is 'three', not int"),
        ("semantickitti", "sweeps=true", "sweeps is True, not int"),
        ("pandaset", "sweeps=0", "sweeps is 0. Give a number from 1 up"),
        ("bag", "every=-1", "every is -1. Give a number from 1 up"),
        ("bag", "time_offset=1e-3", "time_offset is '1e-3', not float"),
        ("bag", "camera_axes=both", "camera_axes is 'both', not"),
        ("bag", "stretch=[0.5]", r"stretch is \[0.5\], not tuple"),
        ("simulated", "image_size=[64, 48.5]", "image_size is"),
    ],
)
def test_an_option_of_another_type_is_refused_before_files_are_looked_for(tmp_path, name, option, said):
    with pytest.raises(DatasetError, match=said):
        open_dataset(name, tmp_path, **parse_options([option]))


def test_options_of_the_right_type_reach_the_source(tmp_path):
    options = ["sequences=[0, '01']", "images=0", "labels=false", "sweeps=2", "split="]
    with pytest.raises(DatasetError, match="sequences/01/velodyne"):
        open_dataset("semantickitti", tmp_path, **parse_options(options))
    with pytest.raises(BagError, match="There is no bag"):
        open_dataset("bag", tmp_path / "none", **parse_options(["stretch=[0, 0.25]", "max_lag=1", "imu=", "tf=x"]))


def test_options_as_typed():
    assert parse_options(["sweeps=3", "split=val", "cameras=[CAM_FRONT]", "root="]) == {
        "sweeps": 3,
        "split": "val",
        "cameras": ["CAM_FRONT"],
        "root": None,
    }
    with pytest.raises(DatasetError, match=r"'sweeps' has no '='"):
        parse_options(["sweeps"])
    with pytest.raises(DatasetError, match=r"'stretch=\[0' is no YAML"):
        parse_options(["stretch=[0"])


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


def test_harmless_losses_are_counted_and_the_first_of_a_kind_is_logged(caplog):
    source = Three()
    assert not source.left_out
    with caplog.at_level(logging.WARNING):
        for detail in ("first", "second"):
            source.leave_out("point", detail, 3)
        source.leave_out("image", "third")
    assert source.left_out == {"point": 6, "image": 1} and Three().left_out == {}
    assert "first" in caplog.text and "second" not in caplog.text and "third" in caplog.text
