"""A recording in several bags: where it is cut, what each holds, what is removed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.series import BagSeries
from ov3d_perception.bags.typestore import typestore
from ov3d_perception.bags.writer import LATCHED
from ov3d_perception.errors import BagError

S = 1_000_000_000
START = 1_700_000_000 * S
TF = "tf2_msgs/msg/TFMessage"


def transform(stamp: int) -> bytes:
    message = messages.tf_message([("a", "b", stamp, np.eye(4))])
    return bytes(typestore().serialize_cdr(message, TF))


def write(series: BagSeries, topic: str, second: float) -> None:
    stamp = START + round(second * S)
    series.write_raw(topic, TF, transform(stamp), stamp)


def held(path: Path) -> dict[str, list[int]]:
    """Tenths of a second after the start at which each topic's messages were received."""
    found: dict[str, list[int]] = {}
    with open_bag(path) as bag:
        for message in bag.messages():
            found.setdefault(message.topic, []).append(round((message.stamp - START) / S * 10))
    return found


def test_without_a_cut_it_is_one_bag(tmp_path: Path) -> None:
    with BagSeries(tmp_path / "drive") as series:
        for second in range(100):
            write(series, "/tf", second)
    assert series.bags == (tmp_path / "drive",) and series.counts == {"/tf": 100}
    assert len(held(tmp_path / "drive")["/tf"]) == 100


def test_each_bag_can_be_used_alone(tmp_path: Path) -> None:
    """Latched transforms are in all of them; no other message is twice or missing."""
    with BagSeries(tmp_path / "drive") as series:
        series.add_topic("/more_static", TF, [LATCHED])
        write(series, "/tf_static", 0)
        write(series, "/more_static", 0.1)
        write(series, "/tf", 0.2)
        assert series.split() == tmp_path / "drive_2"
        write(series, "/tf", 1)
        write(series, "/tf", 2)
    assert series.bags == (tmp_path / "drive", tmp_path / "drive_2")
    assert held(tmp_path / "drive") == {"/tf_static": [0], "/more_static": [1], "/tf": [2]}
    assert held(tmp_path / "drive_2") == {"/tf_static": [10], "/more_static": [10], "/tf": [10, 20]}


def test_bags_are_cut_by_time_and_the_last_are_kept(tmp_path: Path) -> None:
    """60 s kept in pieces of 10 s: when the piece from 120 s on begins, the one that ended at 59 s goes."""
    (tmp_path / "drive_3").mkdir()
    (tmp_path / "drive_3" / "of somebody else").write_text("")
    with BagSeries(tmp_path / "drive", keep_ns=60 * S) as series:
        for second in range(126):
            write(series, "/tf", second)
    seconds = sorted(tenth // 10 for path in series.bags for tenth in held(path)["/tf"])
    assert seconds == list(range(60, 126)) and series.counts == {"/tf": 66}
    assert not (tmp_path / "drive").exists() and (tmp_path / "drive_3" / "of somebody else").is_file()
    assert [path.name for path in series.bags] == [f"drive_{n}" for n in (8, 9, 10, 11, 12, 13, 14)]


def test_a_cut_before_the_first_message_makes_no_empty_bag(tmp_path: Path) -> None:
    with BagSeries(tmp_path / "drive") as series:
        assert series.split() == tmp_path / "drive"
        write(series, "/tf", 0)
        write(series, "/tf", 1)
    assert series.bags == (tmp_path / "drive",)


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    BagSeries(tmp_path / "drive").close()
    with pytest.raises(BagError, match="exists already"):
        BagSeries(tmp_path / "drive")
