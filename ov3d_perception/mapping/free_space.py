"""Free space: the voxels that a scan's rays pass, where nothing stands any more.

The rays of a scan end on its returns. Range images hold the nearest return by direction. A voxel is free when a ray was
measured within its outline and all rays around that end well behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64

from ov3d_perception.geometry.voxels import BITS, HALF, MASK

CELL = np.radians(0.4)  # of the finest image; each coarser one has cells of twice the edge
LEVELS = 3
REACH = 40.0  # metres; farther out, the rays are too far apart to say anything
LOWEST = 1.5  # metres: the least height of a LiDAR above the road that the margin below allows for
_ROWS = 16384  # places looked up at a time, so that their arrays stay in a core's cache
_AZIMUTHS = 900  # at CELL; a multiple of _COARSEST
_COARSEST = 2 ** (LEVELS - 1)  # edge of the coarsest cells in the finest
_STRIDE = 2 * _AZIMUTHS - _AZIMUTHS // _COARSEST  # the levels' cells around, side by side
_A_RADIAN = np.float32((1 - 1e-6) / CELL)  # in cells; so little less that a whole turn ends in the last one
_SLOPE = np.float32(CELL / LOWEST * 2.0 ** np.arange(LEVELS))

_Image = Float32[np.ndarray, "elevations azimuths"]
_Axes = list[Float32[np.ndarray, " n"]]  # x, y and z


@dataclass(frozen=True)
class _Images:
    """By level and cell: the nearest of the returns in it and the eight around it; -inf where there is none in it.

    nearest: of each row of the finest image its cells, then those of the next level's row of that number, and so on.
    top: number of the first row, counted from straight up; there are no returns in the first and the last.
    """

    nearest: Float32[np.ndarray, "rows cells"]
    top: int


def seen_through(
    places: Float[np.ndarray, "p 3"], size: float, returns: Float[np.ndarray, "n 3"]
) -> Bool[np.ndarray, " p"]:
    """True for each cube of edge ``size`` centred at ``places`` that rays from the origin (the sensor) to ``returns``
    pass beyond doubt. Metres.

    A cube is looked up in the image whose cells are nearest to its angular size. The rays must end behind it by more
    than rays of one cell differ on a road seen from ``LOWEST``: at range r, 0.5 m + cell / LOWEST * r^2. So rays that
    skim the road do not clear it.
    """
    if not len(returns) or not len(places):
        return np.zeros(len(places), bool)
    return _through(_images(_axes(returns)), _axes(places), size)


def passed_voxels(
    keys: Int64[np.ndarray, " n"],
    voxel_size: float,
    sensor: Float64[np.ndarray, " 3"],
    centres: Float32[np.ndarray, "v 3"],
) -> Int64[np.ndarray, " m"]:
    """Which of the voxels rays from the sensor to the centres pass beyond doubt. Metres; centres that are not finite
    are ignored."""
    returns = [(axis - offset).astype(np.float32) for axis, offset in zip(centres.T, sensor, strict=True)]
    finite = np.isfinite(returns[0] + returns[1] + returns[2])
    if not finite.all():
        returns = [axis[finite] for axis in returns]
    if not len(returns[0]):
        return np.empty(0, np.int64)
    images, found = _images(returns), [np.empty(0, np.int64)]
    for start in range(0, len(keys), _ROWS):
        places = seen_from(sensor, keys[start : start + _ROWS], voxel_size)
        found.append(start + np.flatnonzero(_through(images, places, voxel_size)))
    return np.concatenate(found)


def seen_from(origin: Float64[np.ndarray, " 3"], keys: Int64[np.ndarray, " n"], voxel_size: float) -> _Axes:
    """Voxel centres relative to a place, metres, in single precision also far from zero. Centres more than ``REACH``
    below the place along an axis get some value beyond ``REACH``.
    """
    corner = np.clip(np.floor((origin - REACH) / voxel_size).astype(np.int64) + HALF, 0, MASK)
    x, y, z = corner.tolist()
    keys = keys - ((x << (2 * BITS)) | (y << BITS) | z)  # keys below the corner wrap to very large numbers
    fields, axes = (keys >> (2 * BITS), keys >> BITS, keys), []
    for field, offset in zip(fields, (corner + 0.5 - HALF) * voxel_size - origin, strict=True):
        axis = (field.astype(np.int32) & MASK).astype(np.float32)
        axis *= np.float32(voxel_size)
        axis += np.float32(offset)
        axes.append(axis)
    return axes


def _through(images: _Images, places: _Axes, size: float) -> Bool[np.ndarray, " p"]:
    """:func:`seen_through`, from the images of the returns."""
    distance, azimuth, row = _direction(places)
    row -= images.top
    np.clip(row, 0, len(images.nearest) - 1, out=row)
    level = _level(size, distance)
    row >>= level
    row *= _STRIDE
    row += azimuth >> level
    row += 2 * _AZIMUTHS - (2 * _AZIMUTHS >> level)  # cells of the finer levels
    margin = _SLOPE.take(level)
    margin *= distance * distance
    margin += np.float32(0.5)
    through = images.nearest.take(row) > distance + margin
    through &= distance < REACH
    return through


def _level(size: float, distance: Float32[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
    """Number of the image with cells most nearly as large as the cube looks: rint(log2(size / distance / CELL))."""
    level = np.zeros(len(distance), np.int32)
    for number in range(1, LEVELS):
        level += distance < np.float32(size / CELL / 2 ** (number - 0.5))
    return level


def _images(returns: _Axes) -> _Images:
    """Of at least one return."""
    distance, azimuth, row = _direction(returns)
    top = (int(row.min()) // _COARSEST - 1) * _COARSEST
    rows = (int(row.max()) // _COARSEST + 2) * _COARSEST - top
    image = np.full((rows, _AZIMUTHS), np.inf, np.float32)
    np.minimum.at(image.reshape(-1), (row - top) * _AZIMUTHS + azimuth, distance)
    nearest, start = np.empty((rows, _STRIDE), np.float32), 0
    for number in range(LEVELS):
        image = _halved(image) if number else image
        part = nearest[: len(image), start : start + image.shape[1]]
        part[:] = np.where(image < np.inf, _smallest_around(image), np.float32(-np.inf))
        start += image.shape[1]
    return _Images(nearest, top)


def _axes(xyz: Float[np.ndarray, "n 3"]) -> _Axes:
    return list(np.ascontiguousarray(np.asarray(xyz, np.float32).T))


def _direction(
    xyz: _Axes,
) -> tuple[Float32[np.ndarray, " n"], Int32[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
    """Metres to each place, and its azimuth and the angle between it and straight up in cells of the finest image."""
    x, y, z = xyz
    across, azimuth = cv2.cartToPolar(x, y)  # its angles are good to 0.01 degrees, and those of equal places equal
    distance, down = cv2.cartToPolar(z, across)
    cells = [(np.asarray(angle).reshape(-1) * _A_RADIAN).astype(np.int32) for angle in (azimuth, down)]
    return np.asarray(distance).reshape(-1), *cells


def _smallest_around(image: _Image) -> _Image:
    """Minimum over the 3 x 3 cells around each; azimuth wraps."""
    across = np.minimum(image, np.minimum(np.roll(image, 1, 1), np.roll(image, -1, 1)))
    around = across.copy()
    np.minimum(around[1:], across[:-1], out=around[1:])
    np.minimum(around[:-1], across[1:], out=around[:-1])
    return around


def _halved(image: _Image) -> Float32[np.ndarray, "half_elevations half_azimuths"]:
    """Minimum of each 2 x 2 cells."""
    rows = np.minimum(image[::2], image[1::2])
    return np.minimum(rows[:, ::2], rows[:, 1::2])
