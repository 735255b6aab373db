"""Requests to the map, answered: checked, turned into a query, asked, and put into a status and a line of text."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

from ov3d_msgs.srv import ApproachPose, QueryText
from ov3d_perception.errors import IdentityError, TransformError, UnknownWordError
from ov3d_perception.mapping.query import Match
from ov3d_perception.mapping.session import MapSession, place
from ov3d_perception.ros import parameters
from ov3d_perception.ros.map import messages as map_messages
from ov3d_perception.ros.map.parameters import MapParameters
from ov3d_perception.ros.transforms import Transforms, newest

NOTHING_MAPPED = "Nothing has been mapped yet. Drive on, or see /diagnostics for what hinders."


class Answers:
    """Of ``~/query`` and ``~/approach``, whose statuses have the same numbers."""

    def __init__(self, node: Node, session: MapSession, transforms: Transforms) -> None:
        self._node, self.session, self._transforms = node, session, transforms

    def to(self, request: QueryText.Request | ApproachPose.Request) -> tuple[int, str, list[Match]]:
        """(status, text for people, matches)."""
        values, status = parameters.read(self._node, MapParameters), QueryText.Response
        problem = map_messages.problem_of(request)
        if problem:
            return status.BAD_REQUEST, problem, []
        semantic_map = self.session.map
        if semantic_map is None or not len(semantic_map):
            return status.NO_MAP, NOTHING_MAPPED, []
        frame: Any = getattr(request, "position_frame", "")
        try:
            T = newest(self._transforms, values.map_frame, frame) if frame else None
            query = map_messages.request_to_query(request, values.query(), T)
            answer = self.session.ask(query, _measured_from(request) if frame else "")
        except TransformError as error:
            return status.BAD_REQUEST, str(error), []
        except UnknownWordError as error:
            return status.UNKNOWN_WORD, str(error), []
        except IdentityError as error:
            return status.IDENTITY_MISMATCH, str(error), []
        found = status.OK if answer.matches else status.NOTHING_FOUND
        return found, str(answer), list(answer.matches)


def _measured_from(request: QueryText.Request) -> str:
    position = request.position
    return place((position.x, position.y, position.z), request.position_frame)
