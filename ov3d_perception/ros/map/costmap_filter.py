"""``map_node``'s costmap filter: a mask of the words' costs for Nav2's KeepoutFilter.

Mask and info are latched. The info is sent once and the mask only when it has changed: the filter drops its mask on
each new info, and logs each new mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int8
from nav2_msgs.msg import CostmapFilterInfo
from nav_msgs.msg import OccupancyGrid
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from ov3d_perception.errors import UnknownWordError
from ov3d_perception.mapping.navigation.costmap import (
    UNKNOWN,
    Layout,
    cost_mask,
    ground_grid,
    parse_costs,
    refined,
    words_of,
)
from ov3d_perception.mapping.query import Match
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.mapping.session import MapSession
from ov3d_perception.ros import messages, parameters, qos
from ov3d_perception.ros.diagnostics import ERROR, Health
from ov3d_perception.ros.map.parameters import MapParameters
from ov3d_perception.ros.navigation_parameters import NavigationParameters

KEEPOUT = 0  # CostmapFilterInfo.type


@dataclass(frozen=True)
class _Mask:
    """A published mask, and its inputs."""

    layout: Layout
    values: Int8[np.ndarray, "h w"]
    of: tuple[object, ...]


class CostmapFilter:
    """Publishes a new mask every ``mask_period`` if the map, the costs or the robot's measures have changed."""

    def __init__(self, node: Node, health: Health, session: MapSession) -> None:
        self._node, self._health, self._session = node, health, session
        self._mask: _Mask | None = None
        self._told = False
        values = parameters.read(node, NavigationParameters)
        self._mask_output = node.create_publisher(OccupancyGrid, "~/output/costmap_filter_mask", qos.LATCHED)
        self._info_output = node.create_publisher(CostmapFilterInfo, "~/output/costmap_filter_info", qos.LATCHED)
        group, wall = MutuallyExclusiveCallbackGroup(), Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(values.mask_period, self.update, callback_group=group, clock=wall)

    def update(self) -> None:
        """Publish a new mask if there is one. Never raises: errors are on /diagnostics."""
        values = parameters.read(self._node, NavigationParameters)
        if not values.costs and self._mask is None:
            return
        try:
            self._tell()
            semantic_map = self._session.map
            if semantic_map is None or not len(semantic_map):
                self._blank()
            else:
                self._draw(semantic_map, values)
        except Exception as error:  # a query may fail in its libraries, too, and the timer must go on
            text = self._health.fail("costmap filter", error)
            self._node.get_logger().error(f"The mask was not renewed. {text}", throttle_duration_sec=10.0)

    def _draw(self, semantic_map: SemanticMap, values: NavigationParameters) -> None:
        of = (semantic_map, semantic_map.revision, values)
        if self._mask is not None and self._mask.of == of:
            return
        with self._health.timed("costmap filter"):
            costs, errors = parse_costs(values.costs)
            words = self._session.words
            matches, unknown = self._find(words_of(costs, words.classes if words is not None else {}))
            _, keys = semantic_map.occupied()
            grid = ground_grid(semantic_map.centres(keys), values.mask_resolution, semantic_map.voxel_size, values.body)
            costly = [(semantic_map.centres(match.keys), cost) for match, cost in matches]
            self._publish(_Mask(grid.layout, cost_mask(grid, costly), of), semantic_map.newest, semantic_map.frame_id)
        if errors or unknown:
            self._health.set("costmap filter", ERROR, f"costs: {' '.join([*errors, *unknown])}")
        else:
            self._health.clear("costmap filter")

    def _find(self, costs: Mapping[str, int]) -> tuple[list[tuple[Match, int]], list[str]]:
        """Matches and their costs, and errors for the words that cannot be asked."""
        known, errors = [], []
        query = parameters.read(self._node, MapParameters).query()
        for word, cost in costs.items():
            try:
                known += [(match, cost) for match in self._session.ask(replace(query, words=(word,))).matches]
            except UnknownWordError as error:
                errors.append(str(error))
        return known, errors

    def _blank(self) -> None:
        """The map was cleared: so is the mask, in its old frame and size."""
        if self._mask is None or self._mask.of == ():
            return
        values = np.full_like(self._mask.values, UNKNOWN)
        frame = self._node.get_parameter("map_frame").value
        self._publish(replace(self._mask, values=values, of=()), self._now(), frame)

    def _publish(self, mask: _Mask, stamp: int, frame_id: str) -> None:
        former, self._mask = self._mask, mask
        if former is not None and former.layout == mask.layout and np.array_equal(former.values, mask.values):
            return
        chosen = parameters.read(self._node, NavigationParameters)
        layout, values = refined(mask.layout, mask.values, chosen.mask_cell, (chosen.mask_size, chosen.mask_size))
        self._health.value("mask [cells]", f"{layout.width} x {layout.height} of {layout.resolution:g} m")
        self._mask_output.publish(messages.occupancy_grid(layout, values, stamp, frame_id))

    def _tell(self) -> None:
        """How to read the mask; once."""
        if self._told:
            return
        self._told = True
        info = CostmapFilterInfo(type=KEEPOUT, base=0.0, multiplier=1.0)
        info.header = messages.header(self._now(), self._node.get_parameter("map_frame").value)
        info.filter_mask_topic = self._mask_output.topic_name
        self._info_output.publish(info)

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
