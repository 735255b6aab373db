"""Microsoft's 7-Scenes as a scene: ``datasets/seven_scenes`` says what lies where."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ov3d_perception.datasets import seven_scenes
from ov3d_perception.fields.scene import Scene

_HELD_OUT = 10


def load_seven_scenes(folder: Path) -> Scene:
    """Colour images with their own poses; every tenth is a test view. Depth images, if any, give points and bounds."""
    names = seven_scenes.sequence(folder)
    views, bounds, clouds = [], [], []
    for stem in names:
        views.append(seven_scenes.colour_view(folder, stem))
        depth = seven_scenes.depth_file(folder, stem)
        if depth is not None:
            T_world_depth, points = seven_scenes.pose(folder, stem), seven_scenes.depth_points(depth)
            bounds.append(np.percentile(points[:, 2], [1, 99]))
            clouds.append(points[:: max(1, len(points) // 2000)] @ T_world_depth[:3, :3].T + T_world_depth[:3, 3])
    known = len(bounds) == len(views)
    return Scene(
        folder.name,
        tuple(views),
        tuple(names),
        np.stack(bounds) if known else None,
        np.concatenate(clouds) if known else None,
        test=tuple(range(_HELD_OUT // 2, len(views), _HELD_OUT)),
    )
