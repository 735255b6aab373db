"""Shifted stamps, by decoding what was shifted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ov3d_perception.bags import messages
from ov3d_perception.bags.restamp import shift_stamps
from ov3d_perception.bags.typestore import typestore

S = 1_000_000_000
NOW = 1_700_000_000 * S


def through(message, by_ns: int, little: bool = True):
    kind = message.__msgtype__
    data = bytes(typestore().serialize_cdr(message, kind, little_endian=little))
    return typestore().deserialize_cdr(shift_stamps(data, kind, by_ns), kind)


@given(st.integers(S, 2**31 * S - 1), st.integers(-S, 10**6 * S), st.booleans())
def test_header_first(stamp: int, by_ns: int, little: bool) -> None:
    if stamp + by_ns >= 2**31 * S:
        stamp -= by_ns
    cloud = messages.point_cloud({"x": np.arange(3, dtype=np.float32)}, stamp, "lidar")
    shifted = through(cloud, by_ns, little)
    assert messages.stamp_ns(shifted) == stamp + by_ns
    assert shifted.header.frame_id == "lidar"
    np.testing.assert_array_equal(shifted.data, cloud.data)


def test_every_transform() -> None:
    message = messages.tf_message(
        [("a", "b", NOW, np.eye(4)), ("b", "c", NOW + 5, np.eye(4)), ("c", "d", 0, np.eye(4))]
    )
    stamps = [messages.stamp_ns(edge) for edge in through(message, 3 * S).transforms]
    assert stamps == [NOW + 3 * S, NOW + 3 * S + 5, 0], "a stamp of zero means none, and stays"


def test_zero_stamp_stays() -> None:
    assert messages.stamp_ns(through(messages.point_cloud({"x": np.zeros(1)}, 0, "l"), S)) == 0


def test_messages_without_a_header_stay() -> None:
    message = messages.build("std_msgs/msg/String", data="1234567890")
    assert through(message, S).data == "1234567890"
    assert shift_stamps(b"\0\1\0\0\1\2\3\4\5\6\7\x08", "unknown_msgs/msg/Thing", S) == b"\0\1\0\0\1\2\3\4\5\6\7\x08"


def test_what_ends_before_its_stamp_stays_as_it_is() -> None:
    for data in (b"", b"\x00\x01\x00\x00"):
        assert shift_stamps(data, "sensor_msgs/msg/PointCloud2", S) == data
