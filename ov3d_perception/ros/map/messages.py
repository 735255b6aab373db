"""Between the map's types and ROS messages: queries, matches, markers, the map cloud."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Pose, Quaternion
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from ov3d_msgs.msg import ObjectMatch
from ov3d_msgs.srv import ApproachPose, QueryText
from ov3d_perception import types
from ov3d_perception.bags.pointcloud2 import pack_rgb
from ov3d_perception.errors import VocabularyError
from ov3d_perception.geometry.poses import transform
from ov3d_perception.language.words import require_list
from ov3d_perception.mapping.labels import LabelledMap
from ov3d_perception.mapping.query import Match, Region, TextQuery
from ov3d_perception.ros import messages
from ov3d_perception.viz.palette import colour, colourise

_BOX_OPACITY = 0.45
_TEXT_HEIGHT = 0.6  # metres
EMPTY = LabelledMap(np.zeros((0, 3), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32))


def problem_of(request: QueryText.Request | ApproachPose.Request) -> str:
    """What makes no sense in a request, with the remedy; "" if nothing."""
    centre, size = request.region_centre, request.region_size
    if not request.words or not all(word.strip() for word in request.words):
        return "The query has no word, or an empty one. Ask for something, such as 'car'."
    try:
        require_list(request.words)
        require_list(request.negatives)
    except VocabularyError as error:
        return str(error)
    if not 0.0 <= request.threshold <= 1.0:
        return f"The threshold is {request.threshold}. Give a probability in (0, 1], or 0 for the node's own."
    if not all(math.isfinite(v) for v in (centre.x, centre.y, centre.z, size.x, size.y, size.z)):
        return "The region is not finite. Give centre and size in metres, or all zeros for everywhere."
    if min(size.x, size.y, size.z) < 0:
        return "The region has a negative size. Give its edges in metres, or all zeros for everywhere."
    if not isinstance(request, QueryText.Request):
        return ""
    if request.order not in (QueryText.Request.BEST_FIRST, QueryText.Request.NEAREST_FIRST):
        return f"There is no order {request.order}. Give 0 for best first, or 1 for nearest first."
    if not all(math.isfinite(v) for v in (request.position.x, request.position.y, request.position.z)):
        return "The position is not finite. Give metres in position_frame."
    return ""


def request_to_query(
    request: QueryText.Request | ApproachPose.Request, defaults: TextQuery, T_map_position: types.Pose | None = None
) -> TextQuery:
    """A checked request to a query. T_map_position: of position_frame, None for the map's."""
    centre, size = request.region_centre, request.region_size
    edges = np.array([size.x, size.y, size.z])
    query = replace(
        defaults,
        words=tuple(request.words),
        negatives=tuple(request.negatives),
        threshold=float(request.threshold) or defaults.threshold,
        region=Region(np.array([centre.x, centre.y, centre.z]), edges) if edges.any() else None,
    )
    if not isinstance(request, QueryText.Request):
        return query
    place = request.position
    position = np.array([[place.x, place.y, place.z]])
    return replace(
        query,
        limit=int(request.limit),
        position=(position if T_map_position is None else transform(T_map_position, position))[0],
        order="nearest" if request.order == QueryText.Request.NEAREST_FIRST else "best",
    )


def match_to_message(match: Match) -> ObjectMatch:
    """A match as it is answered."""
    return ObjectMatch(
        word=match.word,
        score=float(match.score),
        centroid=messages.point(match.centroid),
        pose=_box_pose(match),
        size=messages.vector3(match.box.size),
        count=match.count,
        distance=match.distance,
        last_seen=messages.ns_to_stamp(match.last_seen),
    )


def markers(matches: Sequence[Match], header: Header) -> MarkerArray:
    """A box and a text for each match; what was shown before is removed."""
    result = MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])
    for number, match in enumerate(matches):
        result.markers += [_box(match, number, header), _text(match, number, header)]
    return result


def map_cloud(labelled: LabelledMap, names: Sequence[str], stamp: int, frame_id: str) -> PointCloud2:
    """Voxel centres with fields x y z label(uint16) probability(float32) rgb."""
    columns = {
        "x": labelled.centres[:, 0],
        "y": labelled.centres[:, 1],
        "z": labelled.centres[:, 2],
        "label": labelled.label.astype(np.uint16),
        "probability": labelled.probability,
        "rgb": pack_rgb(colourise(labelled.label, names)),
    }
    return messages.point_cloud(columns, stamp, frame_id)


def _box_pose(match: Match) -> Pose:
    half = match.box.yaw / 2
    return Pose(
        position=messages.point(match.box.centre),
        orientation=Quaternion(x=0.0, y=0.0, z=math.sin(half), w=math.cos(half)),
    )


def _colour(word: str, opacity: float) -> ColorRGBA:
    red, green, blue = (value / 255.0 for value in colour(word))
    return ColorRGBA(r=red, g=green, b=blue, a=opacity)


def _box(match: Match, number: int, header: Header) -> Marker:
    return Marker(
        header=header,
        ns="boxes",
        id=number,
        type=Marker.CUBE,
        action=Marker.ADD,
        pose=_box_pose(match),
        scale=messages.vector3(match.box.size),
        color=_colour(match.word, _BOX_OPACITY),
        lifetime=Duration(),
    )


def _text(match: Match, number: int, header: Header) -> Marker:
    above = match.box.centre + np.array([0.0, 0.0, match.box.size[2] / 2 + _TEXT_HEIGHT])
    return Marker(
        header=header,
        ns="words",
        id=number,
        type=Marker.TEXT_VIEW_FACING,
        action=Marker.ADD,
        pose=Pose(position=messages.point(above), orientation=Quaternion(w=1.0)),
        scale=messages.vector3((0.0, 0.0, _TEXT_HEIGHT)),
        color=_colour(match.word, 1.0),
        text=f"{match.word} {match.score:.2f}",
    )
