"""``sensor_msgs/PointCloud2`` in numpy: any layout in, a :class:`Scan` out, and back.

Messages are known by their attributes alone (``height, width, fields, is_bigendian, point_step, row_step, data``, and
the header), so it works alike on rclpy's and on rosbags' messages. It writes :class:`CloudLayout`, which has the same
attributes.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from ov3d_perception.errors import PointCloudError
from ov3d_perception.geometry.scan_time import PointTimes, interpret
from ov3d_perception.types import Scan, Segmentation

DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
DATATYPE_OF = {np.dtype(code): number for number, code in DATATYPES.items()}
# The first that there is, in any case; of times the first that can be used.
INTENSITY_FIELDS: tuple[str, ...] = ("reflectivity", "intensity", "intensities", "i", "reflectance", "remission")
INTENSITY_FIELDS += ("rssi", "amplitude", "signal")
TIME_FIELDS: tuple[str, ...] = ("time", "t", "timestamp", "time_stamp", "offset_time", "time_offset", "ts", "rel_time")
TIME_FIELDS += ("timeoffset", "relative_timestamp", "point_time_offset")
TIME_FIELDS += tuple(f"{name}_{unit}" for unit in ("ns", "us") for name in ("time_offset", "timestamp", "time", "t"))
RING_FIELDS = ("ring", "line", "channel", "laser_id")
SECOND = 1_000_000_000
_MAYBE_TIME = re.compile("time|stamp")
_READ = {"x", "y", "z", *INTENSITY_FIELDS, *TIME_FIELDS, *RING_FIELDS}
_NEAREST = 1e-3  # metres; a number smaller than that is no distance
MAX_RANGE = 1500.0  # metres; no LiDAR sees farther, and a network's voxel indices do not reach for much more


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
    row_step, _ = _row_step(msg)
    if count and len(data) < (msg.height - 1) * row_step + msg.width * step:
        raise PointCloudError(
            f"A cloud of {msg.height} x {msg.width} points of {step} bytes has {len(data)} bytes in rows of {row_step}",
            "The message is truncated: check the driver, or record it anew",
        )
    layout = _layout_dtype(msg)
    if count == 0:
        return np.empty(0, layout)
    grid = np.ndarray((msg.height, msg.width), layout, data.data, strides=(row_step, step))
    return grid.reshape(-1)


def has_field(msg: Any, *names: str) -> bool:
    """True if the cloud has one of these fields."""
    return any(field.name in names for field in msg.fields)


@dataclass(frozen=True)
class Intensity:
    """Which field became the intensity, the factor that brought it to [0, 1], and the share of points outside."""

    field: str
    scale: float
    clipped: float

    def __str__(self) -> str:
        factor = f"1/{1 / self.scale:.4g}" if self.scale < 1 else f"{self.scale:.4g}"
        return f"{self.field} x {factor}, {100 * self.clipped:.1f} % clipped"


@dataclass(frozen=True)
class Cloud:
    """A message that was read: the scan, what was decided about it, and what was left out.

    times, time_field: None and "" where the cloud has no time field; unread_time: then a field that may be one, by its
    name. intensity: None where it has none. without_return: points that are not finite or lie exactly at the origin;
    far: points beyond :data:`MAX_RANGE`; row_step, byte_order: "" or what was wrong with it.
    """

    scan: Scan
    times: PointTimes | None
    time_field: str
    intensity: Intensity | None
    without_return: int
    far: int
    row_step: str
    unread_time: str = ""
    byte_order: str = ""


def decode(msg: Any, *, intensity_scale: float | None = None) -> Scan:
    """A message to a Scan in its own frame, as :func:`read` does without knowing the clouds before it."""
    return read(msg, intensity_scale=intensity_scale).scan


def read(
    msg: Any,
    *,
    intensity_scale: float | None = None,
    time_unit: str = "auto",
    time_offset: float = 0.0,
    period: float | None = None,
) -> Cloud:
    """A message to a Scan in its own frame. Points without a return, or beyond :data:`MAX_RANGE`, are dropped.

    intensity_scale: factor that brings the intensity to [0, 1]; the product is clipped. None estimates it, see
    :func:`estimate_scale`. Clouds without any of :data:`INTENSITY_FIELDS` give zeros. time_unit, time_offset, period:
    see :func:`geometry.scan_time.interpret`.
    Raises PointCloudError: no x y z, truncated data, no point at all, none usable.
    """
    points = structured(msg)
    if not all(_fields(points, axis) for axis in "xyz"):
        raise PointCloudError(
            f"The cloud's fields are ({', '.join(_names(points))}), without x, y and z of one number each",
            "Remap to a topic of Cartesian points",
        )
    if len(points) == 0:
        raise PointCloudError("The cloud is empty", "Check that the LiDAR is unobstructed and its driver is running")
    xyz, returned, valid = _places(points)
    returns, kept = int(np.count_nonzero(returned)), int(np.count_nonzero(valid))
    byte_order = ""
    if 2 * kept < len(points) and _other_order_fits(points):
        byte_order = f"is_bigendian is {bool(msg.is_bigendian)}, the numbers are in the other order: read as such"
        points = _swapped(points)
        xyz, returned, valid = _places(points)
        returns, kept = int(np.count_nonzero(returned)), int(np.count_nonzero(valid))
    if kept == 0:
        raise PointCloudError(
            f"None of the cloud's {len(points)} points is finite and off the origin"
            + (f" within {MAX_RANGE:.0f} m" if returns else ""),
            "Give the cloud in the sensor's frame, not in a map's"
            if returns
            else "Check that the LiDAR is unobstructed and returns are enabled in its driver",
        )
    index = None if kept == len(points) else np.flatnonzero(valid)
    if index is not None:
        points, xyz = points[index], xyz[index]
    stamp = int(msg.header.stamp.sec * SECOND + msg.header.stamp.nanosec)
    strength, intensity = _intensity(points, intensity_scale)
    time_field, times = "", None
    for name in _fields(points, *TIME_FIELDS):
        found = interpret(points[name], stamp, unit=time_unit, offset_s=time_offset, period_s=period)
        if times is None or found.seconds is not None:
            time_field, times = name, found
        if found.seconds is not None:
            break
    scan = Scan(
        xyz=xyz,
        intensity=strength,
        stamp=stamp,
        frame_id=msg.header.frame_id,
        time=None if times is None else times.seconds,
        ring=_column(points, RING_FIELDS, np.int32),
        source_index=index,
    )
    dropped = len(valid) - returns
    unread = "" if time_field else next((name for name in _names(points) if _MAYBE_TIME.search(name.lower())), "")
    return Cloud(scan, times, time_field, intensity, dropped, returns - kept, _row_step(msg)[1], unread, byte_order)


def _places(
    points: np.ndarray,
) -> tuple[Float32[np.ndarray, "n 3"], Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The points' places; which are finite and off the origin; and which of these are within :data:`MAX_RANGE`."""
    xyz = np.empty((len(points), 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for axis, name in enumerate("xyz"):
            xyz[:, axis] = points[_fields(points, name)[0]]
        square = np.einsum("ni,ni->n", xyz, xyz)
        returned = (square > 0) & (square < np.inf)
        return xyz, returned, returned & (square <= MAX_RANGE**2)


def _swapped(points: np.ndarray) -> np.ndarray:
    """The same bytes as numbers of the other byte order."""
    return points.view(points.dtype.newbyteorder("S"))


def _other_order_fits(points: np.ndarray) -> bool:
    """Whether hardly a point is at a distance that a LiDAR measures, and nearly all are if the bytes are swapped."""
    sample = points[:: max(1, len(points) // 2048)]
    shares = []
    for candidate in (sample, _swapped(sample)):
        xyz, _, valid = _places(candidate)
        measured = valid & (np.abs(xyz).max(axis=1) > _NEAREST)
        touched = (xyz != 0).any(axis=1)  # NaN, too; no return has zeros in either order
        shares.append(float(measured.sum()) / max(int(touched.sum()), 1))
    return shares[0] < 0.2 and shares[1] > 0.9


def encode(columns: Mapping[str, np.ndarray], height: int = 1, *, aligned: bool = False) -> CloudLayout:
    """Columns of equal length n, in order, to a little-endian cloud of ``height`` rows (n divisible by it).

    aligned: with gaps, so that each number lies at a multiple of its size (programs cast points); else packed.
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
    own = [(name, array.dtype.newbyteorder("<"), array.shape[1:]) for name, array in arrays.items()]
    dtype = np.dtype(own, align=aligned)
    points = np.zeros(lengths.pop(), dtype)
    fields = []
    for name, array in arrays.items():
        points[name] = array
        offset = dtype.fields[name][1] if dtype.fields is not None else 0
        fields.append(Field(name, offset, DATATYPE_OF[array.dtype.newbyteorder("=")], math.prod(array.shape[1:])))
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


def labelled_columns(
    scan: Scan, result: Segmentation, rgb: UInt8[np.ndarray, "n 3"], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """A labelled scan for :func:`encode`: x y z label(uint16, UNLABELLED as 65535) vocabulary(uint16)
    probability(float32) rgb.

    names: of the classes; the field ``vocabulary`` has their :func:`vocabulary_id` in every point.
    """
    return {
        **dict(zip("xyz", scan.xyz.T, strict=True)),
        "label": result.label.astype(np.uint16),
        "vocabulary": np.full(len(scan), vocabulary_id(names), np.uint16),
        "probability": result.probability.astype(np.float32),
        "rgb": pack_rgb(rgb),
    }


def vocabulary_id(names: Sequence[str]) -> int:
    """16 bits that tell class names in their order from others: a cloud and the names of its labels come apart."""
    return zlib.crc32("\0".join(names).encode()) & 0xFFFF


def pack_rgb(rgb: UInt8[np.ndarray, "n 3"]) -> Float32[np.ndarray, " n"]:
    """Colours as RViz and PCL read them: 0x00RRGGBB in the bits of a float32 field named ``rgb``."""
    r, g, b = rgb.astype(np.uint32).T
    return (r << 16 | g << 8 | b).astype(np.uint32).view(np.float32)


def _row_step(msg: Any) -> tuple[int, str]:
    """Bytes from row to row, and what was wrong with the message's ``row_step``: some drivers leave it 0, or set it to
    the whole cloud's size, though rows follow each other without a gap."""
    row = msg.width * msg.point_step
    if msg.height <= 1:
        return row, ""
    fits = row <= msg.row_step and (msg.height - 1) * msg.row_step + row <= len(msg.data)
    if fits or len(msg.data) < msg.height * row:
        return max(msg.row_step, row), ""
    return row, f"row_step is {msg.row_step}, rows of {msg.width} points have {row} bytes: read without gaps"


def _layout_dtype(msg: Any) -> np.dtype:
    order = ">" if msg.is_bigendian else "<"
    names, formats, offsets = [], [], []
    for field in msg.fields:
        if field.name in names:  # padding, mostly "_"
            continue
        if field.datatype not in DATATYPES:
            if field.name.lower() not in _READ:
                continue
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


def _fields(points: np.ndarray, *wanted: str) -> list[str]:
    """The fields of these names, in any case, that hold one number a point; in the order of ``wanted``."""
    scalar = {name.lower(): name for name in reversed(_names(points)) if points.dtype[name].shape == ()}
    return [scalar[name] for name in wanted if name in scalar]


def _column(points: np.ndarray, names: tuple[str, ...], dtype: type) -> np.ndarray | None:
    found = _fields(points, *names)
    return points[found[0]].astype(dtype) if found else None


def _intensity(points: np.ndarray, scale: float | None) -> tuple[Float32[np.ndarray, " n"], Intensity | None]:
    for name in _fields(points, *INTENSITY_FIELDS):
        raw = points[name].astype(np.float32)
        if points[name].dtype.kind == "f":
            raw = np.nan_to_num(raw, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        if name.lower() == "reflectivity" and not raw.any():  # a driver that only has the field
            continue
        factor = estimate_scale(raw, points[name].dtype) if scale is None else scale
        scaled = raw * np.float32(factor)
        below = np.count_nonzero(scaled < 0.0) if scaled.min() < 0.0 else 0
        clipped = (np.count_nonzero(scaled > 1.0) + below) / len(raw)
        return np.clip(scaled, 0.0, 1.0, out=scaled), Intensity(name, float(factor), clipped)
    return np.zeros(len(points), np.float32), None


def estimate_scale(raw: Float32[np.ndarray, " n"], kind: np.dtype) -> float:
    """The factor that brings intensities to [0, 1]: 1 for values up to 1, 1/255 for bytes and values up to 255.

    Others are no reflectivity (the strength of the signal, photons): their median becomes 0.1, that of a street, unless
    that clips more than the strongest 15 %. One value of a thousand may lie beyond these limits.
    """
    if kind.itemsize == 1:
        return 1.0 / 255.0
    sample = raw[:: max(1, len(raw) // 4096)]
    middle, strong, strongest = (float(v) for v in np.quantile(sample, (0.5, 0.85, 0.999)))
    if strongest <= 1.0:
        return 1.0
    if strongest <= 255.0:
        return 1.0 / 255.0
    return min(0.1 / max(middle, 1e-3), 1.0 / max(strong, 1e-3))
