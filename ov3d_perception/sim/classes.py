"""The street label set: the 16 lidarseg classes of nuScenes, in its order. A class id indexes :data:`NAMES`."""

from __future__ import annotations

NAMES = (
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
)
(
    BARRIER,
    BICYCLE,
    BUS,
    CAR,
    CONSTRUCTION_VEHICLE,
    MOTORCYCLE,
    PEDESTRIAN,
    TRAFFIC_CONE,
    TRAILER,
    TRUCK,
    DRIVEABLE_SURFACE,
    OTHER_FLAT,
    SIDEWALK,
    TERRAIN,
    MANMADE,
    VEGETATION,
) = range(len(NAMES))
