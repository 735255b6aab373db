"""Order, distance and position of a query, and the question that stays, through a live map_node."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from geometry_msgs.msg import Point
from map_harness import Mapper, block
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String
from visualization_msgs.msg import Marker, MarkerArray

from ov3d_msgs.srv import QueryText
from ov3d_perception.bags.pointcloud2 import structured
from ov3d_perception.ros import qos

pytestmark = pytest.mark.live

CAR = block((0, 0, 0), (20, 9, 7))
CARS = np.concatenate([CAR, CAR + np.float32([0, 20, 0])])
NEAREST, Answer = QueryText.Request.NEAREST_FIRST, QueryText.Response


@pytest.fixture(scope="module")
def mapper(mapper_named: Callable[..., Mapper]) -> Mapper:
    mapper = mapper_named("map_query", publish_period="0.2", eviction="farthest")
    mapper.publish_basis()
    mapper.drive({"car": CARS}, x=10.0)
    return mapper


def test_nearest_first_from_a_place_in_the_map(mapper: Mapper) -> None:
    """The cars' nearest centres to (12.1, 25) are at y = 21.7 and 1.7."""
    answer = mapper.ask("car", order=NEAREST, position=Point(x=12.1, y=25.0, z=0.7))
    assert [match.distance for match in answer.matches] == pytest.approx([3.3, 23.3], abs=1e-3)
    assert " m from (12.1, 25, 0.7) in map_query_map" in answer.message
    (match,) = mapper.ask("car", order=NEAREST, limit=1, position=Point(x=12.1, y=-5.0, z=0.7)).matches
    assert match.distance == pytest.approx(5.1, abs=1e-3) and match.centroid.y < 2


def test_nearest_to_the_robot(mapper: Mapper) -> None:
    """The sensor's frame is 10 m along x: from its origin the first car begins at (0.1, 0.1, 0.1)."""
    mapper.publish_pose(time.time_ns(), x=10.0)
    answer = mapper.ask("car", order=NEAREST, position_frame=mapper.sensor)
    assert answer.matches[0].distance == pytest.approx(0.1 * np.sqrt(3), abs=1e-3)
    assert answer.matches[0].centroid.y < answer.matches[1].centroid.y
    assert f" m from the origin of {mapper.sensor}" in answer.message


def test_senseless_orders_and_positions_are_refused(mapper: Mapper) -> None:
    for request in ({"order": 7}, {"position": Point(x=float("inf"))}, {"position_frame": "nowhere"}):
        answer = mapper.ask("car", **request)
        assert answer.status == Answer.BAD_REQUEST and answer.message and not answer.matches, request


def test_a_standing_query_is_answered_again_as_the_map_grows(mapper: Mapper) -> None:
    words = mapper.probe.node.create_publisher(String, f"/{mapper.name}/input/standing_query", qos.OUTPUT)
    try:
        with (
            mapper.probe.listening(MarkerArray, f"/{mapper.name}/output/answers", qos.LATCHED) as answers,
            mapper.probe.listening(PointCloud2, f"/{mapper.name}/output/answer_points", qos.LATCHED) as clouds,
        ):
            mapper.probe.until(
                lambda: words.publish(String(data="car, tree")), answers, lambda array: _boxes(array) == 2
            )
            clouds.wait(lambda cloud: cloud.width == len(CARS))
            mapper.drive({"tree": block((30, 0, 0), (5, 5, 15))}, x=10.0)
            answers.wait(lambda array: _boxes(array) == 3)
            points = structured(clouds.wait(lambda cloud: cloud.width == len(CARS) + 375))
            assert points.dtype.names == ("x", "y", "z", "match", "score", "rgb")
            assert set(points["match"]) == {0, 1, 2} and (points["x"][points["match"] == 2] > 39).all()
            words.publish(String(data=""))
            answers.wait(lambda array: _boxes(array) == 0)
    finally:
        mapper.probe.node.destroy_publisher(words)


def _boxes(array: MarkerArray) -> int:
    return sum(marker.type == Marker.CUBE and marker.action == Marker.ADD for marker in array.markers)
