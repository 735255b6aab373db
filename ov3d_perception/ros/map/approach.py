"""``map_node``'s approach poses: words to matches, the best match to a pose in front of it."""

from __future__ import annotations

import math

import numpy as np
from geometry_msgs.msg import Pose, Quaternion
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from ov3d_msgs.srv import ApproachPose
from ov3d_perception.errors import Ov3dError, TransformError
from ov3d_perception.mapping.navigation.approach import Approach, NoApproach, Stance, find_approach
from ov3d_perception.mapping.navigation.costmap import ground_grid
from ov3d_perception.mapping.query import Match
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.ros import messages, parameters
from ov3d_perception.ros.diagnostics import WARN, Health
from ov3d_perception.ros.map import messages as map_messages
from ov3d_perception.ros.map.answers import Answers
from ov3d_perception.ros.navigation_parameters import NavigationParameters
from ov3d_perception.ros.transforms import Transforms, newest


class ApproachService:
    """``~/approach``."""

    def __init__(self, node: Node, health: Health, answers: Answers, transforms: Transforms) -> None:
        self._node, self._health, self._answers, self._transforms = node, health, answers, transforms
        node.create_service(ApproachPose, "~/approach", self._on_call, callback_group=ReentrantCallbackGroup())

    def _on_call(self, request: ApproachPose.Request, response: ApproachPose.Response) -> ApproachPose.Response:
        with self._health.timed("approach"):
            try:
                self._respond(request, response)
            except Ov3dError as error:  # such as a map too wide for its grid
                response.status, response.message = ApproachPose.Response.NO_FREE_POSE, str(error)
        return response

    def _respond(self, request: ApproachPose.Request, response: ApproachPose.Response) -> None:
        values = parameters.read(self._node, NavigationParameters)
        if not all(math.isfinite(v) and v >= 0 for v in (request.stand_off, request.robot_radius)):
            response.status = ApproachPose.Response.BAD_REQUEST
            response.message = "stand_off and robot_radius must be metres, or 0 for the node's own."
            return
        response.status, response.message, matches = self._answers.to(request)
        semantic_map = self._answers.session.map
        if not matches or semantic_map is None:
            return
        stance = values.stance(float(request.stand_off), float(request.robot_radius))
        match, found, note = self._choose(semantic_map, matches, stance, values)
        response.match = map_messages.match_to_message(match)
        response.pose.header = messages.header(semantic_map.newest, semantic_map.frame_id)
        if isinstance(found, NoApproach):
            response.status = ApproachPose.Response.NO_FREE_POSE
            response.message = f"{match.word}: {found.reason}{note}"
            return
        response.pose.pose = _pose(found)
        response.message = f"{match.word} ({match.score:.2f}), {found.distance:.1f} m in front of it{note}"

    def _choose(
        self, semantic_map: SemanticMap, matches: list[Match], stance: Stance, values: NavigationParameters
    ) -> tuple[Match, Approach | NoApproach, str]:
        """The best match that can be approached and how, or the best one and why not; and a note for people."""
        _, keys = semantic_map.occupied()
        grid = ground_grid(semantic_map.centres(keys), values.mask_resolution, semantic_map.voxel_size, values.body)
        robot, note = self._robot(semantic_map.frame_id, values.robot_frame)
        ranked = sorted(matches, key=lambda match: match.score, reverse=True)
        found = [find_approach(grid, semantic_map.centres(ranked[0].keys), stance, robot)]
        while isinstance(found[-1], NoApproach) and len(found) < len(ranked):
            found.append(find_approach(grid, semantic_map.centres(ranked[len(found)].keys), stance, robot))
        if isinstance(found[-1], NoApproach):
            return ranked[0], found[0], note if len(found) == 1 else f" So it is with all {len(found)} matches.{note}"
        if len(found) > 1:
            note = f"; no pose at the {len(found) - 1} better matches{note}"
        return ranked[len(found) - 1], found[-1], note

    def _robot(self, map_frame: str, robot_frame: str) -> tuple[np.ndarray | None, str]:
        """The robot's position in the map, None (and why) where TF does not tell."""
        try:
            position = newest(self._transforms, map_frame, robot_frame)[:3, 3]
        except TransformError as error:
            text = (
                "Where the robot is (robot_frame) is unknown: approach poses may be far from it or out of its reach. "
                f"{error}"
            )
            self._health.set("robot", WARN, text)
            return None, f". {text}"
        self._health.clear("robot")
        return position, ""


def _pose(approach: Approach) -> Pose:
    half = approach.yaw / 2
    return Pose(
        position=messages.point(approach.position),
        orientation=Quaternion(x=0.0, y=0.0, z=math.sin(half), w=math.cos(half)),
    )
