"""PointCloud2 of every layout, against values written by hand with struct, and round trips."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from real_data import data_dir

from ov3d_perception.bags import messages
from ov3d_perception.bags.pointcloud2 import Field, decode, encode, has_field, pack_rgb, structured
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.errors import PointCloudError

F32, F64, U8, U16, U32 = 7, 8, 2, 4, 6


def cloud(
    fields: list[tuple[str, int, int]], step: int, data: bytes, width: int, height: int = 1, **other: Any
) -> SimpleNamespace:
    stamp = SimpleNamespace(sec=12, nanosec=500_000_000)
    values = {
        "header": SimpleNamespace(stamp=stamp, frame_id="lidar"),
        "height": height,
        "width": width,
        "fields": [Field(*field) for field in fields],
        "is_bigendian": False,
        "point_step": step,
        "row_step": step * width,
        "data": data,
        "is_dense": True,
    }
    return SimpleNamespace(**(values | other))


XYZI = [("x", 0, F32), ("y", 4, F32), ("z", 8, F32), ("intensity", 12, F32)]


def test_xyzi() -> None:
    scan = decode(cloud(XYZI, 16, struct.pack("<8f", 1, 2, 3, 0.5, 4, 5, 6, 1.0), 2))
    np.testing.assert_array_equal(scan.xyz, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(scan.intensity, np.float32([0.5, 1.0]))
    assert (scan.stamp, scan.frame_id) == (12_500_000_000, "lidar")
    assert scan.time is None and scan.ring is None and scan.source_index is None


def test_big_endian_with_gaps_and_doubles() -> None:
    fields = [("x", 2, F64), ("y", 10, F64), ("z", 20, F32), ("ring", 26, U16)]
    point = struct.pack(">2xdd2xf2xH4x", 1.5, -2.5, 3.5, 31)
    scan = decode(cloud(fields, 32, point + b"\0" * (32 - len(point)), 1, is_bigendian=True))
    np.testing.assert_array_equal(scan.xyz, [[1.5, -2.5, 3.5]])
    np.testing.assert_array_equal(scan.ring, [31])


def test_xyzirc_velodyne() -> None:
    """Autoware's XYZIRC: intensity and return type in bytes, channel as ring."""
    fields = [*XYZI[:3], ("intensity", 12, U8), ("return_type", 13, U8), ("channel", 14, U16)]
    data = struct.pack("<fffBBH", 1, 0, 0, 255, 2, 7) + struct.pack("<fffBBH", 2, 0, 0, 51, 2, 8)
    scan = decode(cloud(fields, 16, data, 2))
    np.testing.assert_allclose(scan.intensity, [1.0, 0.2])
    np.testing.assert_array_equal(scan.ring, [7, 8])


def test_organised_cloud_with_padded_rows() -> None:
    rows = [struct.pack("<3f", 1, 0, 0) + struct.pack("<3f", 2, 0, 0) + b"pad!", struct.pack("<6f", 3, 0, 0, 4, 0, 0)]
    scan = decode(cloud(XYZI[:3], 12, b"".join(rows), 2, 2, row_step=28))
    np.testing.assert_array_equal(scan.xyz[:, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(scan.intensity, np.zeros(4))


def test_drops_what_is_not_finite_or_at_the_origin() -> None:
    points = [[1, 1, 1], [np.nan, 0, 0], [0, 0, 0], [2, 2, np.inf], [0, 0, 3]]
    scan = decode(cloud(XYZI[:3], 12, np.float32(points).tobytes(), 5))
    np.testing.assert_array_equal(scan.source_index, [0, 4])
    np.testing.assert_array_equal(scan.xyz, [[1, 1, 1], [0, 0, 3]])


def test_intensity_scale() -> None:
    data = struct.pack("<8f", 1, 0, 0, 100.0, 2, 0, 0, np.nan)
    np.testing.assert_allclose(decode(cloud(XYZI, 16, data, 2)).intensity, [100 / 255, 0])
    np.testing.assert_allclose(decode(cloud(XYZI, 16, data, 2), intensity_scale=0.02).intensity, [1.0, 0])


@pytest.mark.parametrize(
    ("name", "datatype", "value"),
    [
        ("t", U32, struct.pack("<I", 250_000_000)),  # Ouster: nanoseconds after the stamp
        ("time", F32, struct.pack("<f", 0.25)),  # Velodyne: seconds after it
        ("timestamp", F64, struct.pack("<d", 12.75)[:8]),  # small numbers are relative ...
        ("timestamp", F64, struct.pack("<d", 1_700_000_012.75)),  # ... large ones absolute: Hesai's seconds
        ("timestamp", F64, struct.pack("<d", 1_700_000_012.75e9)),  # Livox' nanoseconds
    ],
)
def test_time_fields(name: str, datatype: int, value: bytes) -> None:
    stamp = SimpleNamespace(sec=1_700_000_012, nanosec=500_000_000)
    header = SimpleNamespace(stamp=stamp, frame_id="lidar")
    fields = [*XYZI[:3], (name, 12, datatype)]
    message = cloud(fields, 12 + len(value), struct.pack("<3f", 1, 2, 3) + value, 1, header=header)
    expected = 12.75 if value == struct.pack("<d", 12.75) else 0.25
    np.testing.assert_allclose(decode(message).time, [expected], atol=1e-6)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (cloud(XYZI, 16, b"", 0), "empty"),
        (cloud(XYZI[:3], 12, np.full((4, 3), np.nan, np.float32).tobytes(), 4), "None of the cloud's 4 points"),
        (cloud(XYZI, 16, b"\0" * 31, 2), "31 bytes"),
        (cloud(XYZI, 16, b"\0" * 64, 2, 2, row_step=16), "rows of 16"),
        (cloud([("range", 0, F32)], 4, b"\0" * 4, 1), r"\(range\), without x, y and z"),
        (cloud([*XYZI[:3], ("w", 12, 9)], 16, b"\0" * 16, 1), "unknown datatype 9"),
        (cloud(XYZI, 12, b"\0" * 12, 1), "do not fit points of 12 bytes"),
    ],
)
def test_bad_clouds_say_why(message: SimpleNamespace, cause: str) -> None:
    with pytest.raises(PointCloudError, match=cause):
        decode(message)


DTYPES = st.sampled_from([np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64])


@given(st.data(), st.integers(0, 20), st.lists(DTYPES, min_size=1, max_size=6))
def test_encode_and_structured_are_inverse(data: st.DataObject, count: int, dtypes: list[type]) -> None:
    columns = {f"c{i}": data.draw(hnp.arrays(dtype, count)) for i, dtype in enumerate(dtypes)}
    layout = encode(columns)
    assert layout.point_step == sum(np.dtype(dtype).itemsize for dtype in dtypes)
    assert len(layout.data) == layout.row_step == count * layout.point_step
    points = structured(layout)
    for name, column in columns.items():
        np.testing.assert_array_equal(points[name], column)


def test_encode_counts_rows_and_byte_order() -> None:
    layout = encode({"v": np.arange(12, dtype=">f4").reshape(4, 3), "k": np.arange(4, dtype=np.uint16)}, height=2)
    assert layout.fields == (Field("v", 0, F32, 3), Field("k", 12, U16, 1))
    assert (layout.height, layout.width, layout.row_step) == (2, 2, 28)
    assert layout.data.tobytes()[:14] == struct.pack("<3fH", 0, 1, 2, 0)
    np.testing.assert_array_equal(structured(layout)["v"], np.arange(12).reshape(4, 3))


def test_encode_refuses() -> None:
    with pytest.raises(PointCloudError, match=r"\[2, 3\]"):
        encode({"x": np.zeros(2, np.float32), "y": np.zeros(3, np.float32)})
    with pytest.raises(PointCloudError, match="i8"):
        encode({"x": np.zeros(2, np.int64)})


def test_dense_only_if_finite() -> None:
    assert encode({"x": np.zeros(2)}).is_dense
    assert not encode({"x": np.array([0.0, np.nan])}).is_dense


def test_pack_rgb() -> None:
    packed = pack_rgb(np.uint8([[0x12, 0x34, 0x56]]))
    assert packed.tobytes() == bytes([0x56, 0x34, 0x12, 0x00])


def test_rosbags_message_keeps_the_points() -> None:
    xyz = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    message = messages.point_cloud(dict(zip("xyz", xyz.T, strict=True)), 5_000_000_007, "front")
    scan = decode(message)
    np.testing.assert_array_equal(scan.xyz, xyz)
    assert (scan.stamp, scan.frame_id) == (5_000_000_007, "front")
    assert not has_field(message, "intensity") and has_field(message, "q", "x")


def test_swapping_byte_order_changes_nothing() -> None:
    columns = {name: np.random.default_rng(1).normal(size=9).astype(np.float32) for name in "xyz"}
    little = encode(columns)
    swapped = structured(little).byteswap().tobytes()
    header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id="")
    big = SimpleNamespace(header=header, **{**vars(little), "data": swapped, "is_bigendian": True})
    np.testing.assert_array_equal(decode(big).xyz, np.stack(list(columns.values()), 1))


def test_real_ouster_cloud() -> None:
    if (data := data_dir()) is None:
        pytest.skip("no shared test data")
    with open_bag(data / "ouster_bag") as bag:
        message = next(iter(bag.messages(["/os1_cloud_node/points"]))).decode()
    scan = decode(message)
    assert (message.height, message.width, message.point_step) == (64, 2048, 48)
    raw = structured(message)
    distance = raw["range"][scan.source_index] / 1000  # the driver's own range, in millimetres
    np.testing.assert_allclose(np.linalg.norm(scan.xyz, axis=1), distance, atol=0.03)
    assert scan.ring is not None and set(scan.ring) <= set(range(64))
    assert scan.time is not None and scan.time.min() >= 0 and scan.time.max() < 0.11
