"""Which places a scan looks through: what stood there has gone.

The rays of a scan end on its returns. They are kept in an image of directions, each cell with its nearest return; a
place counts as seen through when a ray was measured in its very direction and all rays around it end well behind.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

CELL = np.radians(0.4)
REACH = 40.0  # metres; farther out, the rays are too far apart to say anything
_AZIMUTHS, _ELEVATIONS = round(2 * np.pi / CELL), round(np.pi / CELL)


def seen_through(places: Float[np.ndarray, "p 3"], returns: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " p"]:
    """True for each place that a ray from the origin (the sensor) to one of ``returns`` passes, beyond doubt. Metres.

    The rays must end farther behind the place than rays half a cell to either side differ on a surface seen at a
    grazing angle from 1.5 m: 0.5 m + (CELL / 1.5 m) r^2 at range r. So the road is not cleared by rays that skim it.
    """
    image = _nearest_return(returns)
    direction, distance = _polar(places)
    margin = 0.5 + CELL / 1.5 * distance**2
    measured = np.isfinite(image.reshape(-1)[direction])
    nearest = _smallest_around(image).reshape(-1)[direction]
    return measured & (nearest > distance + margin) & (distance < REACH)


def _nearest_return(returns: Float[np.ndarray, "n 3"]) -> Float32[np.ndarray, "elevations azimuths"]:
    image = np.full(_ELEVATIONS * _AZIMUTHS, np.inf, np.float32)
    direction, distance = _polar(returns)
    np.minimum.at(image, direction, distance)
    return image.reshape(_ELEVATIONS, _AZIMUTHS)


def _polar(xyz: Float[np.ndarray, "n 3"]) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """Cell of the direction of each point, and its range."""
    x, y, z = np.asarray(xyz, np.float32).T
    across = np.hypot(x, y)
    azimuth = ((np.arctan2(y, x) + np.pi) / CELL).astype(np.int64) % _AZIMUTHS
    elevation = ((np.arctan2(z, across) + np.pi / 2) / CELL).astype(np.int64).clip(0, _ELEVATIONS - 1)
    return elevation * _AZIMUTHS + azimuth, np.hypot(across, z)


def _smallest_around(image: Float32[np.ndarray, "e a"]) -> Float32[np.ndarray, "e a"]:
    """Minimum over the 3 x 3 cells around each; azimuth wraps."""
    across = np.minimum(image, np.minimum(np.roll(image, 1, 1), np.roll(image, -1, 1)))
    around = across.copy()
    np.minimum(around[1:], across[:-1], out=around[1:])
    np.minimum(around[:-1], across[1:], out=around[:-1])
    return around
