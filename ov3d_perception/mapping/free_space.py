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
_AZIMUTHS, _ELEVATIONS = 900, 452  # at CELL; multiples of 2 ** (LEVELS - 1)

_Image = Float32[np.ndarray, "elevations azimuths"]


def seen_through(
    places: Float[np.ndarray, "p 3"], size: float, returns: Float[np.ndarray, "n 3"]
) -> Bool[np.ndarray, " p"]:
    """True for each cube of edge ``size`` centred at ``places`` that rays from the origin (the sensor) to ``returns``
    pass beyond doubt. Metres.

    A cube is looked up in the image whose cells are most nearly as large as it looks from the sensor. The rays must end
    farther behind it than rays of one cell differ on a road seen from ``LOWEST``: at range r, 0.5 m + cell / LOWEST *
    r^2. So rays that skim the road do not clear it.
    """
    distance = _range(places)
    near = np.flatnonzero(distance < REACH)
    through = np.zeros(len(places), bool)
    if not len(near) or not len(returns):
        return through
    azimuth, elevation = _direction(places[near])
    distance = distance[near]
    level = _level(size, distance)
    image = _nearest_return(returns)
    for number in range(LEVELS):
        image = _halved(image) if number else image
        rows = np.flatnonzero(level == number)
        cell = (elevation[rows] >> number) * image.shape[1] + (azimuth[rows] >> number)
        margin = np.float32(0.5) + np.float32(CELL * 2**number / LOWEST) * distance[rows] ** 2
        measured = np.isfinite(image.reshape(-1)[cell])
        through[near[rows]] = measured & (_smallest_around(image).reshape(-1)[cell] > distance[rows] + margin)
    return through


def seen_from(
    origin: Float64[np.ndarray, " 3"], keys: Int64[np.ndarray, " n"], voxel_size: float
) -> Float32[np.ndarray, "n 3"]:
    """Voxel centres as seen from a place, metres; exact to single precision however far the place is from zero."""
    shift = (0.5 - HALF) * voxel_size - origin
    axes = zip((keys >> (2 * BITS), (keys >> BITS) & MASK, keys & MASK), shift, strict=True)
    return np.stack([(axis * voxel_size + offset).astype(np.float32) for axis, offset in axes], 1)


def _level(size: float, distance: Float32[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
    """Number of the image with cells most nearly as large as the cube looks: rint(log2(size / distance / CELL))."""
    level = np.zeros(len(distance), np.int32)
    for number in range(1, LEVELS):
        level += distance < np.float32(size / CELL / 2 ** (number - 0.5))
    return level


def _nearest_return(returns: Float[np.ndarray, "n 3"]) -> _Image:
    image = np.full((_ELEVATIONS, _AZIMUTHS), np.inf, np.float32)
    azimuth, elevation = _direction(returns)
    np.minimum.at(image.reshape(-1), elevation * _AZIMUTHS + azimuth, _range(returns))
    return image


def _direction(xyz: Float[np.ndarray, "n 3"]) -> tuple[Int32[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
    """Azimuth and elevation in cells of the finest image."""
    x, y, z = np.ascontiguousarray(np.asarray(xyz, np.float32).T)
    azimuth = ((np.arctan2(y, x) + np.float32(np.pi)) * np.float32(1 / CELL)).astype(np.int32)
    azimuth[azimuth >= _AZIMUTHS] -= _AZIMUTHS
    across = np.sqrt(x * x + y * y)
    elevation = ((np.arctan2(z, across) + np.float32(np.pi / 2)) * np.float32(1 / CELL)).astype(np.int32)
    return azimuth, elevation.clip(0, _ELEVATIONS - 1, out=elevation)


def _range(xyz: Float[np.ndarray, "n 3"]) -> Float32[np.ndarray, " n"]:
    """Metres."""
    xyz = np.asarray(xyz, np.float32)
    return np.sqrt(np.einsum("nk,nk->n", xyz, xyz))


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
