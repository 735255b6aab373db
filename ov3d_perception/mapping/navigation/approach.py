"""Where to stand in front of a thing: on free ground, at a distance, facing it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from scipy.spatial import cKDTree

from ov3d_perception.mapping.navigation.costmap import FREE, OCCUPIED, GroundGrid


@dataclass(frozen=True)
class Stance:
    """How to stand. Metres.

    stand_off: least horizontal distance from the robot's centre to the nearest voxel of the thing. slack: it may be as
    much more. radius: all cells within it around the robot's centre are free.
    """

    stand_off: float = 1.5
    slack: float = 1.0
    radius: float = 0.4


@dataclass(frozen=True)
class Approach:
    """A pose on the ground. yaw: towards the thing's nearest voxel, about z; distance: to that voxel, horizontally."""

    position: Float64[np.ndarray, " 3"]
    yaw: float
    distance: float


@dataclass(frozen=True)
class NoApproach:
    """Why there is no pose, as a sentence."""

    reason: str


def find_approach(
    grid: GroundGrid,
    thing: Float32[np.ndarray, "n d"],
    stance: Stance,
    robot: Float[np.ndarray, " e"] | None = None,
) -> Approach | NoApproach:
    """A pose in front of a thing of voxels centred at ``thing`` (at least one), in the grid's frame.

    With the robot's position, it is the pose nearest to the robot, connected by passable cells where the robot stands
    on known ground. Without, it is the pose whose distance to the thing is nearest to the stand-off.
    """
    passable = passable_cells(grid, stance.radius)
    around = np.flatnonzero(_near(grid, thing, stance.stand_off + stance.slack))
    xy = grid.layout.centres(around)
    distance, nearest = cKDTree(thing[:, :2]).query(xy)
    right = (distance >= stance.stand_off) & (distance <= stance.stand_off + stance.slack)
    ring = around[right]
    allowed = right & passable.reshape(-1)[around]
    if not allowed.any():
        return NoApproach(_nowhere(grid, ring, stance))
    if robot is not None:
        reached = _reached(grid, passable, np.asarray(robot, np.float64), stance)
        if reached is not None:
            allowed &= reached.reshape(-1)[around]
            if not allowed.any():
                return NoApproach(
                    f"There is free ground in front of it, but none that the robot can reach from ({robot[0]:.1f}, "
                    f"{robot[1]:.1f}) over known free ground"
                )
    preference = distance if robot is None else np.linalg.norm(xy - np.asarray(robot)[:2], axis=1)
    best = int(np.flatnonzero(allowed)[preference[allowed].argmin()])
    towards = thing[nearest[best], :2] - xy[best]
    height = float(grid.ground.reshape(-1)[around[best]])
    position = np.array([xy[best, 0], xy[best, 1], height])
    return Approach(position, float(np.arctan2(towards[1], towards[0])), float(distance[best]))


def passable_cells(grid: GroundGrid, radius: float) -> Bool[np.ndarray, "h w"]:
    """Free cells at whose centre a robot of this radius touches no cell that is occupied or unknown, nor leaves the
    grid: such a cell's centre is farther than the radius and half a diagonal away."""
    free = np.pad((grid.state == FREE).astype(np.uint8), 1)
    clearance = cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1] * grid.layout.resolution
    return np.asarray((grid.state == FREE) & (clearance >= radius + grid.layout.resolution / np.sqrt(2)))


def _near(grid: GroundGrid, thing: Float32[np.ndarray, "n d"], reach: float) -> Bool[np.ndarray, " cells"]:
    """Cells in the rectangle around the thing, grown by ``reach``."""
    layout = grid.layout
    low = (thing[:, :2].min(0) - reach - layout.origin) / layout.resolution
    high = (thing[:, :2].max(0) + reach - layout.origin) / layout.resolution
    columns, rows = np.arange(layout.width), np.arange(layout.height)
    across = (columns >= low[0] - 1) & (columns <= high[0] + 1)
    along = (rows >= low[1] - 1) & (rows <= high[1] + 1)
    return (along[:, None] & across).reshape(-1)


def _reached(
    grid: GroundGrid, passable: Bool[np.ndarray, "h w"], robot: Float64[np.ndarray, " d"], stance: Stance
) -> Bool[np.ndarray, "h w"] | None:
    """Passable cells connected (by edges) with the robot's; None where the robot is on no known ground.

    A robot that stands too close to something for its radius starts from the nearest passable cell within two radii.
    """
    cell = int(grid.layout.cells(robot[None])[0])
    if cell < 0 or grid.state.reshape(-1)[cell] != FREE:
        return None
    _, region = cv2.connectedComponents(passable.astype(np.uint8), connectivity=4)
    cells = np.flatnonzero(passable)
    away = np.linalg.norm(grid.layout.centres(cells) - robot[:2], axis=1)
    if not len(away) or away.min() > 2 * stance.radius + grid.layout.resolution:
        return np.zeros_like(passable)
    return np.asarray(region == region.reshape(-1)[cells[away.argmin()]])


def _nowhere(grid: GroundGrid, ring: Int64[np.ndarray, " n"], stance: Stance) -> str:
    state = grid.state.reshape(-1)[ring]
    occupied, free = int((state == OCCUPIED).sum()), int((state == FREE).sum())
    reach = f"{stance.stand_off:.1f} to {stance.stand_off + stance.slack:.1f} m from it"
    if not free:
        return f"No ground is known to be free {reach} ({occupied} cells are occupied, {len(ring) - occupied} unknown)"
    return (
        f"The free ground {reach} is too narrow for a robot of {stance.radius:.2f} m radius ({free} cells are free, "
        f"{occupied} occupied, {len(ring) - occupied - free} unknown)"
    )
