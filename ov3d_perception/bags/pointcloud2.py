"""``sensor_msgs/PointCloud2`` in numpy: any layout in, a :class:`Scan` out, and back.

Messages are known by their attributes alone (``height, width, fields, is_bigendian, point_step, row_step, data``, and
the header), so it works alike on rclpy's and on rosbags' messages. It writes :class:`CloudLayout`, which has the same
attributes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from ov3d_perception.errors import PointCloudError
from ov3d_perception.types import Scan

DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
DATATYPE_OF = {np.dtype(code): number for number, code in DATATYPES.items()}
INTENSITY_FIELDS = ("intensity", "intensities", "i", "reflectivity", "signal")
TIME_FIELDS = ("time", "t", "timestamp", "time_stamp", "offset_time", "time_offset")
RING_FIELDS = ("ring", "line", "channel", "laser_id")
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Field:
    """As ``sensor_msgs/PointField``: byte offset in the point, datatype 1 (INT8) to 8 (FLOAT64)."""

    name: str
    offset: int
    datatype: int
    count: int = 1


@dataclass(frozen=True)
class CloudLayout:
    """What a PointCloud2 holds besides its header, with the message's own attribute names."""

    height: int
    width: int
    fields: tuple[Field, ...]
    point_step: int
    row_step: int
    data: UInt8[np.ndarray, " bytes"]
    is_bigendian: bool = False
    is_dense: bool = True


def structured(msg: Any) -> np.ndarray:
    """The points as a structured array of shape (height * width,), one named column a field, no copy where possible.

    Raises PointCloudError for an unknown datatype, fields outside the point, or fewer bytes than announced.
    """
    count, step = msg.height * msg.width, msg.point_step
    data = np.frombuffer(msg.data, np.uint8)
    row_step = msg.row_step if msg.height > 1 else msg.width * step
    needed = (msg.height - 1) * row_step + msg.width * step if count else 0
    if len(data) < needed or row_step < msg.width * step:
        raise PointCloudError(
            f"A cloud of {msg.height} x {msg.width} points of {step} bytes has {len(data)} bytes in rows of {row_step}",
            "The message is truncated or its driver fills row_step wrongly: check the driver, or record it anew",
        )
    layout = _layout_dtype(msg)
    if count == 0:
        return np.empty(0, layout)
    grid = np.ndarray((msg.height, msg.width), layout, data.data, strides=(row_step, step))
    return grid.reshape(-1)


def has_field(msg: Any, *names: str) -> bool:
    """True if the cloud has one of these fields."""
    return any(field.name in names for field in msg.fields)


def decode(msg: Any, *, intensity_scale: float | None = None) -> Scan:
    """A message to a Scan in its own frame. Points that are not finite, or lie exactly at the origin, are dropped.

    intensity_scale: factor that brings the intensity field to [0, 1]; the product is clipped. None guesses: 1 for
    values up to 1, else 1/255. Clouds without an intensity field (or ``reflectivity``, ``signal``) give zeros.
    Per-point times may be seconds or integer nanoseconds after the stamp, or absolute; Scan.time is seconds after it.
    Raises PointCloudError: no x y z, truncated data, no point at all, none finite.
    """
    points = structured(msg)
    names = _names(points)
    if not {"x", "y", "z"} <= set(names):
        raise PointCloudError(
            f"The cloud's fields are ({', '.join(names)}), without x, y and z", "Remap to a topic of Cartesian points"
        )
    if len(points) == 0:
        raise PointCloudError("The cloud is empty", "Check that the LiDAR is unobstructed and its driver is running")
    xyz = np.empty((len(points), 3), np.float32)
    for axis, name in enumerate("xyz"):
        xyz[:, axis] = points[name]
    valid = np.isfinite(xyz).all(1) & (xyz != 0).any(1)
    if not valid.any():
        raise PointCloudError(
            f"None of the cloud's {len(points)} points is finite and off the origin",
            "Check that the LiDAR is unobstructed and returns are enabled in its driver",
        )
    index = None if valid.all() else np.flatnonzero(valid)
    if index is not None:
        points, xyz = points[index], xyz[index]
    stamp = msg.header.stamp.sec * SECOND + msg.header.stamp.nanosec
    return Scan(
        xyz=xyz,
        intensity=_intensity(points, intensity_scale),
        stamp=int(stamp),
        frame_id=msg.header.frame_id,
        time=_time(points, stamp),
        ring=_column(points, RING_FIELDS, np.int32),
        source_index=index,
    )


def encode(columns: Mapping[str, np.ndarray], height: int = 1) -> CloudLayout:
    """Columns of equal length n, in order, to a packed little-endian cloud of ``height`` rows (n divisible by it).

    A column of shape (n,) is one field, of shape (n, c) a field of count c. dtypes: the eight of PointField.
    """
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1 or next(iter(lengths)) % height:
        raise PointCloudError(
            f"Columns of lengths {sorted(lengths)} do not make a cloud of {height} rows", "Give columns of equal length"
        )
    unknown = {
        name: array.dtype.str for name, array in arrays.items() if array.dtype.newbyteorder("=") not in DATATYPE_OF
    }
    if unknown:
        raise PointCloudError(f"PointCloud2 has no datatype for {unknown}", "Use (u)int8/16/32 or float32/64")
    dtype = np.dtype([(name, array.dtype.newbyteorder("<"), array.shape[1:]) for name, array in arrays.items()])
    points = np.empty(lengths.pop(), dtype)
    fields, offset = [], 0
    for name, array in arrays.items():
        points[name] = array
        count = math.prod(array.shape[1:])
        fields.append(Field(name, offset, DATATYPE_OF[array.dtype.newbyteorder("=")], count))
        offset += count * array.itemsize
    width = len(points) // height
    finite = all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f")
    return CloudLayout(
        height,
        width,
        tuple(fields),
        dtype.itemsize,
        dtype.itemsize * width,
        points.view(np.uint8).reshape(-1),
        is_dense=finite,
    )


def pack_rgb(rgb: UInt8[np.ndarray, "n 3"]) -> Float32[np.ndarray, " n"]:
    """Colours as RViz and PCL read them: 0x00RRGGBB in the bits of a float32 field named ``rgb``."""
    r, g, b = rgb.astype(np.uint32).T
    return (r << 16 | g << 8 | b).astype(np.uint32).view(np.float32)


def _layout_dtype(msg: Any) -> np.dtype:
    order = ">" if msg.is_bigendian else "<"
    names, formats, offsets = [], [], []
    for field in msg.fields:
        if field.datatype not in DATATYPES:
            raise PointCloudError(
                f"Field '{field.name}' has the unknown datatype {field.datatype}", "Correct the cloud's publisher"
            )
        base = np.dtype(order + DATATYPES[field.datatype])
        names.append(field.name)
        formats.append((base, (field.count,)) if field.count > 1 else base)
        offsets.append(field.offset)
    try:
        return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": msg.point_step})
    except ValueError as error:
        raise PointCloudError(
            f"The fields {names} at offsets {offsets} do not fit points of {msg.point_step} bytes ({error})",
            "Correct the cloud's publisher",
        ) from error


def _names(points: np.ndarray) -> tuple[str, ...]:
    return points.dtype.names or ()


def _column(points: np.ndarray, names: tuple[str, ...], dtype: type) -> np.ndarray | None:
    name = next((name for name in names if name in _names(points)), None)
    return None if name is None else points[name].astype(dtype)


def _intensity(points: np.ndarray, scale: float | None) -> Float32[np.ndarray, " n"]:
    raw = _column(points, INTENSITY_FIELDS, np.float32)
    if raw is None:
        return np.zeros(len(points), np.float32)
    raw = np.nan_to_num(raw, nan=0.0, posinf=0.0, neginf=0.0)
    if scale is None:
        scale = 1.0 if raw.max() <= 1.0 else 1.0 / 255.0
    return np.clip(raw * np.float32(scale), 0.0, 1.0)


def _time(points: np.ndarray, stamp_ns: int) -> Float32[np.ndarray, " n"] | None:
    name = next((name for name in TIME_FIELDS if name in _names(points)), None)
    if name is None:
        return None
    raw = points[name]
    if raw.dtype.kind in "iu":
        return (raw.astype(np.int64) * 1e-9).astype(np.float32)
    seconds = raw.astype(np.float64)
    largest = np.nanmax(np.abs(seconds))
    if largest > 1e15:  # absolute, in nanoseconds
        seconds = (seconds - stamp_ns) * 1e-9
    elif largest > 1e6:  # absolute, in seconds
        seconds = (seconds - stamp_ns // SECOND) - (stamp_ns % SECOND) * 1e-9
    return np.nan_to_num(seconds).astype(np.float32)
