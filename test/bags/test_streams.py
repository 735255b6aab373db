"""Which clock a sensor's stamps are of, told by stamps and by the moments at which the recorder got them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.bags.info import info
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.streams import Stream, clock_fault, clock_offset_s, read_stream
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.doctor.examine import examine
from ov3d_perception.errors import BagError

S = 1_000_000_000
START = 1_700_000_000 * S


def stream(topic: str, ahead_s: float = 0.0, delay_s: float = 0.05, count: int = 600) -> Stream:
    """A minute at 10 Hz whose stamps are ``ahead_s`` ahead of the true moments."""
    moments = START + np.arange(count) * S // 10
    return Stream(topic, moments + round(ahead_s * S), moments + round(delay_s * S))


LIDAR = stream("/points", delay_s=0.15)


@pytest.mark.parametrize(
    ("ahead_s", "words"),
    [
        (0.0, ""),
        (-0.5, ""),  # a slow camera, not another clock
        (-5.0, r"its stamps are 4\.9 s behind those of /points$"),
        (37.0, r"37\.1 s ahead of those of /points \(TAI, PTP's time, is 37 s ahead of UTC\)"),
        (18.0, "GPS time"),
        (300 - START / S, r"behind those of /points \(they count from power-on\)"),
        (-START / S, "power-on"),
    ],
)
def test_faults_of_a_clock(ahead_s: float, words: str) -> None:
    fault = clock_fault(stream("/front/image_raw", ahead_s), LIDAR)
    assert bool(fault) == bool(words) and re.search(words, fault)


def test_one_stamp_for_all() -> None:
    frozen = Stream("/front/image_raw", np.zeros(5, np.int64), START + np.arange(5) * S)
    assert clock_fault(frozen, LIDAR) == "its 5 messages all have the stamp 0.000 s"


def test_a_bag_that_was_written_and_not_received_tells_by_its_stamps_alone() -> None:
    def written(one: Stream) -> Stream:
        return Stream(one.topic, one.stamps, np.arange(len(one.stamps)))

    near, far = written(stream("/front")), written(stream("/front", ahead_s=-100.0))
    assert clock_offset_s(near, written(LIDAR)) is None
    assert clock_fault(near, written(LIDAR)) == ""
    assert "100.0 s behind those of /points" in clock_fault(far, written(LIDAR))


def test_a_recorder_whose_clock_jumped_does_not_blame_the_camera() -> None:
    jumped = Stream("/front", stream("/front").stamps, stream("/front").received - 10**9 * S // 10)
    assert clock_offset_s(jumped, LIDAR) == pytest.approx(1e8, abs=1)
    assert clock_fault(jumped, LIDAR) == "", "the stamps overlap"


def test_nearest_and_period() -> None:
    assert LIDAR.nearest(START + 340_000_000) == 3
    assert LIDAR.nearest(0) == 0 and LIDAR.nearest(2 * START) == 599
    assert LIDAR.period_s == pytest.approx(0.1)
    assert stream("/points", count=1).period_s is None


@pytest.mark.parametrize("size", [0, 1, 11])
def test_a_message_that_ends_before_its_stamp_is_named(size: int, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write_raw("/points", "sensor_msgs/msg/PointCloud2", bytes(size), START)
    said = f"a message of {size} bytes ends before its stamp"
    with open_bag(tmp_path / "bag") as read, pytest.raises(BagError, match=f"(?i)/points: {said}"):
        read_stream(read, "/points")
    assert said in str(examine(tmp_path / "bag")).lower()
    assert "/points" in str(info(tmp_path / "bag"))
