"""What Nav2's local costmap makes of the demo's drive, with the parameters that docs/navigation.md shows.

Nav2 itself cannot be installed here: its ObstacleLayer is emulated by what its sources do (nav2_costmap_2d:
observation_buffer.cpp's bufferCloud, obstacle_layer.cpp's updateBounds).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import yaml

from ov3d_perception.geometry.poses import transform
from ov3d_perception.inference import LiveModel, Segmenter
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.mapping.navigation.obstacles import obstacles
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.networks.checkpoint_info import words_of_checkpoint
from ov3d_perception.paths import share_dir
from ov3d_perception.ros.cloud_filter_node import CloudFilterParameters
from ov3d_perception.sim import classes
from ov3d_perception.sim.drive import SimFrame, simulate
from ov3d_perception.types import Sweep

RESOLUTION = 0.05
ROAD = classes.DRIVEABLE_SURFACE
GROUND = (classes.DRIVEABLE_SURFACE, classes.OTHER_FLAT, classes.SIDEWALK, classes.TERRAIN)
RANGE = 20.0


@dataclass(frozen=True)
class ObstacleLayer:
    """The marking half of nav2_costmap_2d's ObstacleLayer, with its defaults."""

    parameters: dict[str, Any]

    def marks(self, source: str, xyz: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """True for each point (n, 3), in the costmap's frame, that makes its cell lethal. origin: of the sensor."""
        own = self.parameters[source]
        z, distance = xyz[:, 2], np.linalg.norm(xyz[:, :2] - origin[:2], axis=1)
        buffered = (z >= own.get("min_obstacle_height", 0.0)) & (z <= own.get("max_obstacle_height", 0.0))
        layer = (z >= self.parameters.get("min_obstacle_height", 0.0)) & (
            z <= self.parameters.get("max_obstacle_height", 2.0)
        )
        return np.asarray(buffered & layer & (distance <= own.get("obstacle_max_range", 2.5)))


def cells(xyz: np.ndarray) -> np.ndarray:
    """A number for each point's cell of the costmap."""
    column, row = np.floor(xyz[:, :2] / RESOLUTION).astype(np.int64).T
    return np.asarray(row * 1_000_000 + column)


@pytest.fixture(scope="module")
def drive() -> list[SimFrame]:
    """Five scans of the demo's drive."""
    whole = simulate(2002, 12.0, cameras=False)
    return [whole[index] for index in (5, 30, 55, 80, 110)]


@pytest.fixture(scope="module")
def model() -> LiveModel:
    segmenter = Segmenter.load(shipped_checkpoint())
    words = words_of_checkpoint(segmenter.info, "shipped")
    return LiveModel.of(segmenter, Vocabulary.from_words(segmenter.info.vocabulary, words))


@pytest.fixture(scope="module")
def layer() -> ObstacleLayer:
    text = yaml.safe_load((share_dir() / "config" / "nav2_semantic.yaml").read_text())
    return ObstacleLayer(text["local_costmap"]["local_costmap"]["ros__parameters"]["obstacle_layer"])


def test_road_is_free_and_obstacles_are_marked(drive: list[SimFrame], model: LiveModel, layer: ObstacleLayer) -> None:
    """At most 5 lethal cells a scan on true road, at least 95 % of the cells of true obstacles, within 20 m."""
    kept, wanted = 0, 0
    for frame in drive:
        result = model([Sweep(frame.scan, np.eye(4))])
        rule = CloudFilterParameters().rule
        passed = obstacles(rule, model.vocabulary.names, frame.scan.xyz, result.label, result.probability)
        world = transform(frame.T_world_lidar, frame.scan.xyz)
        marking = passed & layer.marks("chosen", world, frame.T_world_lidar[:3, 3])
        cell = cells(world)
        near = np.linalg.norm(frame.scan.xyz[:, :2], axis=1) <= RANGE
        flat = np.isin(frame.labels, GROUND)
        thing = near & ~flat & standing(world, flat, rule.min_height, rule.max_height)
        on_road = np.setdiff1d(cell[marking & near & (frame.labels == ROAD)], cell[near & ~flat])
        assert len(on_road) <= 5
        true_cells = np.unique(cell[thing])
        kept += int(np.isin(true_cells, cell[marking]).sum())
        wanted += len(true_cells)
    assert wanted > 1000
    assert kept >= 0.95 * wanted


def standing(world: np.ndarray, flat: np.ndarray, low: float, high: float) -> np.ndarray:
    """True for points that stand in this band above the nearest true ground."""
    from scipy.spatial import cKDTree

    _, nearest = cKDTree(world[flat, :2]).query(world[:, :2])
    height = world[:, 2] - world[flat, 2][nearest]
    return np.asarray((height >= low) & (height <= high))


def test_the_layer_takes_what_the_filter_passes_at_any_height(layer: ObstacleLayer) -> None:
    """Nav2's own heights are of odom, whose ground is not at 0 on a hill; the layer has a pair besides the sources'."""
    hill = np.array([[1.0, 0.0, -7.0], [1.0, 0.0, 0.3], [1.0, 0.0, 12.0]])
    assert layer.marks("chosen", hill, np.zeros(3)).tolist() == [True, True, True]
