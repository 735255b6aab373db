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
from ov3d_perception.bags.cloud_reader import faults
from ov3d_perception.bags.pointcloud2 import Field, decode, encode, has_field, pack_rgb, read, structured
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.errors import PointCloudError

F32, F64, U8, U16, U32 = 7, 8, 2, 4, 6


def cloud_of(
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
    scan = decode(cloud_of(XYZI, 16, struct.pack("<8f", 1, 2, 3, 0.5, 4, 5, 6, 1.0), 2))
    np.testing.assert_array_equal(scan.xyz, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(scan.intensity, np.float32([0.5, 1.0]))
    assert (scan.stamp, scan.frame_id) == (12_500_000_000, "lidar")
    assert scan.time is None and scan.ring is None and scan.source_index is None


def test_big_endian_with_gaps_and_doubles() -> None:
    fields = [("x", 2, F64), ("y", 10, F64), ("z", 20, F32), ("ring", 26, U16)]
    point = struct.pack(">2xdd2xf2xH4x", 1.5, -2.5, 3.5, 31)
    scan = decode(cloud_of(fields, 32, point + b"\0" * (32 - len(point)), 1, is_bigendian=True))
    np.testing.assert_array_equal(scan.xyz, [[1.5, -2.5, 3.5]])
    np.testing.assert_array_equal(scan.ring, [31])


def test_a_message_may_list_its_fields_in_any_order() -> None:
    fields = [("intensity", 12, F32), ("z", 8, F32), ("x", 0, F32), ("y", 4, F32)]
    scan = decode(cloud_of(fields, 16, struct.pack("<8f", 1, 2, 3, 0.5, 4, 5, 6, 1.0), 2))
    np.testing.assert_array_equal(scan.xyz, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(scan.intensity, np.float32([0.5, 1.0]))


def test_xyzirc_velodyne() -> None:
    """Autoware's XYZIRC: intensity and return type in bytes, channel as ring."""
    fields = [*XYZI[:3], ("intensity", 12, U8), ("return_type", 13, U8), ("channel", 14, U16)]
    data = struct.pack("<fffBBH", 1, 0, 0, 255, 2, 7) + struct.pack("<fffBBH", 2, 0, 0, 51, 2, 8)
    scan = decode(cloud_of(fields, 16, data, 2))
    np.testing.assert_allclose(scan.intensity, [1.0, 0.2])
    np.testing.assert_array_equal(scan.ring, [7, 8])


def test_organised_cloud_with_padded_rows() -> None:
    rows = [struct.pack("<3f", 1, 0, 0) + struct.pack("<3f", 2, 0, 0) + b"pad!", struct.pack("<6f", 3, 0, 0, 4, 0, 0)]
    scan = decode(cloud_of(XYZI[:3], 12, b"".join(rows), 2, 2, row_step=28))
    np.testing.assert_array_equal(scan.xyz[:, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(scan.intensity, np.zeros(4))


def test_drops_what_is_not_finite_or_at_the_origin() -> None:
    points = [[1, 1, 1], [np.nan, 0, 0], [0, 0, 0], [2, 2, np.inf], [0, 0, 3]]
    scan = decode(cloud_of(XYZI[:3], 12, np.float32(points).tobytes(), 5))
    np.testing.assert_array_equal(scan.source_index, [0, 4])
    np.testing.assert_array_equal(scan.xyz, [[1, 1, 1], [0, 0, 3]])


def test_columns_stay_with_their_points_where_returns_are_missing() -> None:
    """An organised cloud of two rings whose first ring has one return of four."""
    x = np.float32([[10, np.nan, np.nan, np.nan], [10, 11, 12, 13]]).reshape(-1)
    columns = {"x": x, "y": x, "z": x, "intensity": np.tile(np.float32([0, 0.25, 0.5, 1]), 2)}
    columns |= {"time": np.tile(np.float32([0, 0.03, 0.06, 0.09]), 2), "ring": np.repeat(np.uint16([0, 1]), 4)}
    layout = encode(columns, height=2)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=12, nanosec=0), frame_id="lidar")
    scan = decode(SimpleNamespace(header=header, **vars(layout)), intensity_scale=1.0)
    np.testing.assert_array_equal(scan.xyz[:, 0], [10, 10, 11, 12, 13])
    np.testing.assert_allclose(scan.time, [0, 0, 0.03, 0.06, 0.09], atol=1e-6)
    np.testing.assert_array_equal(scan.intensity, np.float32([0, 0, 0.25, 0.5, 1]))
    np.testing.assert_array_equal(scan.ring, [0, 1, 1, 1, 1])


def test_intensity_scale() -> None:
    data = struct.pack("<8f", 1, 0, 0, 100.0, 2, 0, 0, np.nan)
    np.testing.assert_allclose(decode(cloud_of(XYZI, 16, data, 2)).intensity, [100 / 255, 0])
    np.testing.assert_allclose(decode(cloud_of(XYZI, 16, data, 2), intensity_scale=0.02).intensity, [1.0, 0])


@pytest.mark.parametrize(
    ("name", "kind", "ticks", "start"),
    [
        ("t", np.uint32, 1e9, 0),  # Ouster: nanoseconds after the stamp
        ("time", np.float32, 1, 0),  # Velodyne: seconds after it
        ("timestamp", np.float64, 1, 1_700_000_012.5),  # Hesai: seconds, absolute
        ("timestamp", np.float64, 1e9, 1_700_000_012.5e9),  # Livox: nanoseconds
        ("offset_time", np.uint32, 1e6, 0),
    ],
)
def test_time_fields(name: str, kind: type, ticks: float, start: float) -> None:
    seconds = np.linspace(0, 0.1, 50)
    xyz = dict.fromkeys("xyz", np.ones(50, np.float32))
    message = messages.point_cloud(xyz | {name: (start + seconds * ticks).astype(kind)}, 1_700_000_012_500_000_000, "l")
    cloud = read(message)
    np.testing.assert_allclose(cloud.scan.time, seconds, atol=2e-6)
    assert cloud.time_field == name and not faults(cloud)


def test_times_that_cannot_be_used_are_named() -> None:
    frozen = np.full(50, 1.7e9)
    cloud = read(messages.point_cloud(dict.fromkeys("xyz", np.ones(50)) | {"timestamp": frozen}, 7, "lidar"))
    assert cloud.scan.time is None
    assert "'timestamp' are not used: all points have the same time, 1700000000" in faults(cloud)["times"]


def test_a_stray_point_does_not_cost_the_scan() -> None:
    xyz = np.random.default_rng(0).uniform(1, 100, (50, 3)).astype(np.float32)
    xyz[[7, 9, 11]] = [3e7, 0, 0], [0, -1600, 0], [1e30, 1e30, 0]
    cloud = read(messages.point_cloud(dict(zip("xyz", xyz.T, strict=True)), 0, "lidar"))
    np.testing.assert_array_equal(cloud.scan.source_index, np.delete(np.arange(50), [7, 9, 11]))
    assert (cloud.far, cloud.without_return) == (2, 1)  # the square of 1e30 is no float32: not finite
    assert faults(cloud) == {"far points": "2 points lie beyond 1500 m and are dropped"}
    with pytest.raises(PointCloudError, match=r"within 1500 m.*not in a map's"):
        read(messages.point_cloud(dict(zip("xyz", xyz.T + 1e6, strict=True)), 0, "lidar"))


@pytest.mark.parametrize("big", [True, False])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_a_wrong_byte_order_is_read_through(big: bool, kind: str) -> None:
    """is_bigendian says the opposite of what the numbers are; a half of the points have no return (zeros)."""
    order = ">" if big else "<"
    xyz = np.random.default_rng(0).normal(0, 30, (400, 3))
    xyz[::2] = 0
    dtype = np.dtype([(name, order + kind) for name in "xyz"] + [("intensity", order + "f4")])
    data = np.zeros(400, dtype)
    for axis, name in enumerate("xyz"):
        data[name] = xyz[:, axis]
    data["intensity"] = np.arange(400) % 200
    number = {"f4": 7, "f8": 8}[kind]
    fields = [(name, dtype.fields[name][1], number) for name in "xyz"] + [
        ("intensity", dtype.fields["intensity"][1], 7)
    ]
    told = read(cloud_of(fields, dtype.itemsize, data.tobytes(), 400, 1, is_bigendian=not big))
    np.testing.assert_allclose(told.scan.xyz, xyz[1::2], rtol=1e-6)
    np.testing.assert_allclose(told.scan.intensity, (np.arange(400) % 200)[1::2] / 255, rtol=1e-5)
    assert faults(told)["byte order"].startswith(f"is_bigendian is {not big}")
    right = read(cloud_of(fields, dtype.itemsize, data.tobytes(), 400, 1, is_bigendian=big))
    np.testing.assert_array_equal(right.scan.xyz, told.scan.xyz)
    assert "byte order" not in faults(right)


def test_a_cloud_without_a_sensible_byte_order_is_not_swapped() -> None:
    """NaN and far points alone, as of a covered LiDAR, are no other byte order."""
    bad = struct.pack("<4f", np.nan, np.nan, np.nan, 0) * 99 + struct.pack("<4f", 1, 2, 3, 0)
    cloud = read(cloud_of(XYZI, 16, bad, 100))
    assert cloud.byte_order == "" and len(cloud.scan) == 1


@pytest.mark.parametrize("row_step", [0, 16, 128])
def test_a_wrong_row_step_of_whole_data_is_read_through(row_step: int) -> None:
    """0: Velodyne on dashing; 128, the whole cloud: PointCloud2Modifier.resize(width, height) until 2026."""
    data = np.arange(1, 33, dtype=np.float32)
    cloud = read(cloud_of(XYZI, 16, data.tobytes(), 4, 2, row_step=row_step))
    np.testing.assert_array_equal(cloud.scan.xyz[:, 0], data[::4])
    assert faults(cloud)["row_step"].startswith(f"row_step is {row_step}, rows of 4 points have 64 bytes")


def test_reflectivity_is_preferred_where_it_is_filled() -> None:
    columns = dict.fromkeys("xyz", np.ones(3, np.float32)) | {"intensity": np.full(3, 900, np.float32)}
    filled = read(messages.point_cloud(columns | {"reflectivity": np.full(3, 51, np.uint8)}, 0, "lidar"))
    np.testing.assert_allclose(filled.scan.intensity, 0.2)
    assert filled.intensity is not None and filled.intensity.field == "reflectivity"
    empty = read(messages.point_cloud(columns | {"reflectivity": np.zeros(3, np.uint8)}, 0, "lidar"))
    assert empty.intensity is not None and empty.intensity.field == "intensity"


@pytest.mark.parametrize(
    ("raw", "median"),
    [
        (np.linspace(0, 1, 1000, dtype=np.float32), 0.5),
        (np.linspace(0, 255, 1000, dtype=np.float32), 0.5),
        (np.linspace(0, 1, 1000, dtype=np.float32) ** 4 * 200, 0.049),
        (np.random.default_rng(0).gamma(2, 300, 1000).astype(np.float32), 0.1),  # Ouster's signal
        (np.random.default_rng(0).integers(0, 65536, 1000).astype(np.uint16), 0.1),
    ],
)
def test_the_scale_of_the_intensity_is_found(raw: np.ndarray, median: float) -> None:
    cloud = read(messages.point_cloud(dict.fromkeys("xyz", np.ones(1000)) | {"intensity": raw}, 0, "lidar"))
    assert np.median(cloud.scan.intensity) == pytest.approx(median, abs=0.01)
    assert cloud.intensity is not None and cloud.intensity.clipped < 0.2


def test_clipped_intensities_are_told() -> None:
    message = cloud_of(XYZI, 16, np.full(40, 100, np.float32).tobytes(), 10)
    assert faults(read(message, intensity_scale=0.02))["intensity"].startswith(
        "Intensity from intensity x 1/50, 100.0 %"
    )
    assert not faults(read(message))


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (cloud_of(XYZI, 16, b"", 0), "empty"),
        (cloud_of(XYZI[:3], 12, np.full((4, 3), np.nan, np.float32).tobytes(), 4), "None of the cloud's 4 points"),
        (cloud_of(XYZI, 16, b"\0" * 31, 2), "31 bytes"),
        (cloud_of(XYZI, 16, b"\0" * 60, 2, 2, row_step=16), "rows of 32"),
        (cloud_of([("range", 0, F32)], 4, b"\0" * 4, 1), r"\(range\), without x, y and z"),
        (cloud_of([*XYZI[:2], ("z", 8, 9)], 16, b"\0" * 16, 1), "unknown datatype 9"),
        (cloud_of(XYZI, 12, b"\0" * 12, 1), "do not fit points of 12 bytes"),
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


def test_aligned_fields_lie_at_multiples_of_their_size() -> None:
    columns = {"a": np.array([1, 2], np.uint8), "b": np.array([0.5, 1.5], np.float64), "c": np.array([3, 4], np.uint16)}
    layout = encode(columns, aligned=True)
    assert [(field.name, field.offset) for field in layout.fields] == [("a", 0), ("b", 8), ("c", 16)]
    assert (layout.point_step, layout.row_step, len(layout.data)) == (24, 48, 48)
    for name, column in columns.items():
        np.testing.assert_array_equal(structured(layout)[name], column)


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


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("time_offset_ns", np.int32([0, 50_000_000, 99_000_000])),  # Aeva
        ("point_time_offset", np.uint32([0, 50_000_000, 99_000_000])),  # Blickfeld
        ("relative_timestamp", np.float32([0, 0.05, 0.099])),  # Cepton
        ("ts", np.float32([0, 0.05, 0.099])),  # SICK
        ("time_us", np.uint32([0, 50_000, 99_000])),
        ("Timestamp", np.float64([12.5, 12.55, 12.599])),
    ],
)
def test_time_fields_of_all_drivers(column: str, values: np.ndarray) -> None:
    cloud = read(columns_at(12_500_000_000, **{column: values}), period=0.1)
    assert cloud.time_field == column
    np.testing.assert_allclose(cloud.scan.time, [0, 0.05, 0.099], atol=1e-6)


def test_of_two_time_fields_the_usable_one_is_taken() -> None:
    times = {"time": np.zeros(3, np.float32), "timestamp": np.float64([12.5, 12.55, 12.599])}
    cloud = read(columns_at(12_500_000_000, **times), period=0.1)
    assert cloud.time_field == "timestamp" and not faults(cloud)
    np.testing.assert_allclose(cloud.scan.time, [0, 0.05, 0.099], atol=1e-6)
    frozen = read(columns_at(0, time=np.zeros(3, np.float32), t=np.zeros(3, np.uint32)), period=0.1)
    assert frozen.time_field == "time" and "same time" in faults(frozen)["times"]


@pytest.mark.parametrize("columns", [{"acquisition_time": np.zeros(3)}, {"timestamp": np.zeros((3, 2), np.uint32)}])
def test_a_time_field_that_is_not_read_is_told(columns: dict[str, np.ndarray]) -> None:
    cloud = read(columns_at(0, **columns))
    assert cloud.scan.time is None and f"'{next(iter(columns))}' may hold point times" in faults(cloud)["times"]


@pytest.mark.parametrize("name", ["Intensity", "reflectance", "remission", "rssi", "amplitude"])
def test_intensity_by_other_names(name: str) -> None:
    np.testing.assert_allclose(read(columns_at(0, **{name: np.float32([0, 51, 255])})).scan.intensity, [0, 0.2, 1])


def test_intensities_below_zero_are_told() -> None:
    """Decibels in a field called reflectivity."""
    cloud = read(columns_at(0, reflectivity=np.float32([-30, -20, -5])))
    assert "100.0 % clipped: set intensity_scale" in faults(cloud)["intensity"]


def test_padding_and_fields_that_nobody_reads_may_be_anything() -> None:
    fields = [*XYZI[:3], ("_", 12, U8), ("_", 13, U8), ("id", 14, 9)]
    np.testing.assert_array_equal(decode(cloud_of(fields, 16, struct.pack("<3f4x", 1, 2, 3), 1)).xyz, [[1, 2, 3]])


def columns_at(stamp: int, **columns: np.ndarray) -> Any:
    """A cloud of three points with these fields."""
    return messages.point_cloud(dict.fromkeys("xyz", np.ones(3, np.float32)) | columns, stamp, "lidar")
