"""Which places a scan looks through: what stood there has gone.

The rays of a scan end on its returns. They are kept in images of directions, each cell with its nearest return; a place
counts as seen through when a ray was measured within its outline and all rays around it end well behind.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

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
    azimuth, elevation, distance = _polar(places)
    with np.errstate(divide="ignore"):
        level = np.rint(np.log2(size / np.maximum(distance, 1e-3) / CELL)).clip(0, LEVELS - 1).astype(np.int64)
    through = np.zeros(len(places), bool)
    image = _nearest_return(returns)
    for number in range(LEVELS):
        image = _halved(image) if number else image
        rows = np.flatnonzero((level == number) & (distance < REACH))
        cell = elevation[rows] >> number, azimuth[rows] >> number
        margin = 0.5 + CELL * 2**number / LOWEST * distance[rows] ** 2
        measured = np.isfinite(image[cell])
        through[rows] = measured & (_smallest_around(image)[cell] > distance[rows] + margin)
    return through


def _nearest_return(returns: Float[np.ndarray, "n 3"]) -> _Image:
    image = np.full((_ELEVATIONS, _AZIMUTHS), np.inf, np.float32)
    azimuth, elevation, distance = _polar(returns)
    np.minimum.at(image.reshape(-1), elevation * _AZIMUTHS + azimuth, distance)
    return image


def _polar(
    xyz: Float[np.ndarray, "n 3"],
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """Azimuth and elevation in cells of the finest image, and range in metres."""
    x, y, z = np.asarray(xyz, np.float32).T
    across = np.hypot(x, y)
    azimuth = ((np.arctan2(y, x) + np.pi) / CELL).astype(np.int64) % _AZIMUTHS
    elevation = ((np.arctan2(z, across) + np.pi / 2) / CELL).astype(np.int64).clip(0, _ELEVATIONS - 1)
    return azimuth, elevation, np.hypot(across, z)


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
