"""Which places a scan looks through: what stood there has gone.

The rays of a scan end on its returns. They are kept in images of directions, each cell with its nearest return; a place
counts as seen through when a ray was measured within its outline and all rays around it end well behind.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64

from ov3d_perception.geometry.voxels import BITS, HALF, MASK

CELL = np.radians(0.4)  # of the finest image; each coarser one has cells of twice the edge
LEVELS = 3
REACH = 40.0  # metres; farther out, the rays are too far apart to say anything
LOWEST = 1.5  # metres: the least height of a LiDAR above the road that the margin below allows for
_ROWS = 16384  # places that are looked up at a time: what they take stays in a core's cache
_AZIMUTHS, _ELEVATIONS = 900, 452  # at CELL; multiples of 2 ** (LEVELS - 1)

_Image = Float32[np.ndarray, "elevations azimuths"]
_Axes = list[Float32[np.ndarray, " n"]]  # x, y and z


def seen_through(
    places: Float[np.ndarray, "p 3"], size: float, returns: Float[np.ndarray, "n 3"]
) -> Bool[np.ndarray, " p"]:
    """True for each cube of edge ``size`` centred at ``places`` that rays from the origin (the sensor) to ``returns``
    pass beyond doubt. Metres.

    A cube is looked up in the image whose cells are most nearly as large as it looks from the sensor. The rays must end
    farther behind it than rays of one cell differ on a road seen from ``LOWEST``: at range r, 0.5 m + cell / LOWEST *
    r^2. So rays that skim the road do not clear it.
    """
    return _through(_images(returns), _axes(places), size)


def _through(images: list[_Image], places: _Axes, size: float) -> Bool[np.ndarray, " p"]:
    """:func:`seen_through` by what is nearest around each direction, by level (see :func:`_images`)."""
    distance = _range(places)
    near = np.flatnonzero(distance < REACH)
    through = np.zeros(len(distance), bool)
    azimuth, elevation = _direction([axis.take(near) for axis in places])
    distance = distance.take(near)
    level = _level(size, distance)
    for number, image in enumerate(images):
        rows = np.flatnonzero(level == number)
        cell = (elevation.take(rows) >> number) * image.shape[1] + (azimuth.take(rows) >> number)
        away = distance.take(rows)
        margin = np.float32(0.5) + np.float32(CELL * 2**number / LOWEST) * away**2
        through[near.take(rows)] = image.take(cell) > away + margin
    return through


def _images(returns: Float[np.ndarray, "n 3"]) -> list[_Image]:
    """By level: of each cell the nearest return in it and the eight around it; -inf where there is none in it."""
    images, image = [], _nearest_return(_axes(returns))
    for number in range(LEVELS):
        image = _halved(image) if number else image
        images.append(np.where(np.isfinite(image), _smallest_around(image), -np.inf).astype(np.float32, copy=False))
    return images


def passed(
    keys: Int64[np.ndarray, " n"],
    voxel_size: float,
    sensor: Float64[np.ndarray, " 3"],
    centres: Float32[np.ndarray, "v 3"],
) -> Int64[np.ndarray, " m"]:
    """Which of the voxels rays from the sensor to the centres pass beyond doubt. Metres; what is not finite is none."""
    returns = (centres[np.isfinite(centres).all(1)] - sensor).astype(np.float32)
    images, found = _images(returns), [np.empty(0, np.int64)]
    for start in range(0, len(keys), _ROWS):
        places = seen_from(sensor, keys[start : start + _ROWS], voxel_size)
        found.append(start + np.flatnonzero(_through(images, places, voxel_size)))
    return np.concatenate(found)


def seen_from(origin: Float64[np.ndarray, " 3"], keys: Int64[np.ndarray, " n"], voxel_size: float) -> _Axes:
    """Voxel centres as seen from a place, metres; exact to single precision however far the place is from zero."""
    shift = (0.5 - HALF) * voxel_size - origin
    axes = zip((keys >> (2 * BITS), (keys >> BITS) & MASK, keys & MASK), shift, strict=True)
    return [(axis * voxel_size + offset).astype(np.float32) for axis, offset in axes]


def _level(size: float, distance: Float32[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
    """Number of the image with cells most nearly as large as the cube looks: rint(log2(size / distance / CELL))."""
    level = np.zeros(len(distance), np.int32)
    for number in range(1, LEVELS):
        level += distance < np.float32(size / CELL / 2 ** (number - 0.5))
    return level


def _nearest_return(returns: _Axes) -> _Image:
    image = np.full((_ELEVATIONS, _AZIMUTHS), np.inf, np.float32)
    azimuth, elevation = _direction(returns)
    np.minimum.at(image.reshape(-1), elevation * _AZIMUTHS + azimuth, _range(returns))
    return image


def _axes(xyz: Float[np.ndarray, "n 3"]) -> _Axes:
    return list(np.ascontiguousarray(np.asarray(xyz, np.float32).T))


def _direction(xyz: _Axes) -> tuple[Int32[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
    """Azimuth and elevation in cells of the finest image."""
    x, y, z = xyz
    azimuth = ((np.arctan2(y, x) + np.float32(np.pi)) * np.float32(1 / CELL)).astype(np.int32)
    azimuth[azimuth >= _AZIMUTHS] -= _AZIMUTHS
    across = np.sqrt(x * x + y * y)
    elevation = ((np.arctan2(z, across) + np.float32(np.pi / 2)) * np.float32(1 / CELL)).astype(np.int32)
    return azimuth, elevation.clip(0, _ELEVATIONS - 1, out=elevation)


def _range(xyz: _Axes) -> Float32[np.ndarray, " n"]:
    """Metres."""
    x, y, z = xyz
    return np.sqrt(x * x + y * y + z * z)


def _smallest_around(image: _Image) -> _Image:
    """Minimum over the 3 x 3 cells around each; azimuth wraps."""
    across = np.minimum(image, np.minimum(np.roll(image, 1, 1), np.roll(image, -1, 1)))
    around = across.copy()
    np.minimum(around[1:], across[:-1], out=around[1:])
    np.minimum(around[:-1], across[1:], out=around[:-1])
    return around


def _halved(image: _Image) -> _Image:
    """Minimum of each 2 x 2 cells."""
    rows = np.minimum(image[::2], image[1::2])
    return np.minimum(rows[:, ::2], rows[:, 1::2])
