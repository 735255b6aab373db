"""Ask the running nodes from a script or the command line: where is a ...?, and from now on label with these words.

Service names are relative to the robot's namespace (:func:`names.robot`); an absolute name is taken as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from geometry_msgs.msg import Point
from rclpy.client import Client
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import Trigger

from ov3d_msgs.srv import ApproachPose, LoadCheckpoint, LoadMap, QueryText, SaveMap, SetVocabulary
from ov3d_perception.errors import Ov3dError
from ov3d_perception.ros import names

AGAIN_S = 5.0


class ServiceError(Ov3dError):
    """A service that is not there, or does not answer."""


def ask(
    words: Sequence[str],
    negatives: Sequence[str] = (),
    threshold: float = 0.0,
    limit: int = 0,
    timeout: float = 10.0,
    service: str = names.QUERY,
    nearest: bool = False,
    position: Sequence[float] = (0.0, 0.0, 0.0),
    position_frame: str = "",
) -> QueryText.Response:
    """One QueryText call; its answer as it came. Raises ServiceError after ``timeout`` seconds.

    Matches come best first, or nearest first. position: from where distances are measured, metres in ``position_frame``
    ("": the map's).
    """
    x, y, z = map(float, position)
    request = QueryText.Request(
        words=list(words),
        negatives=list(negatives),
        threshold=float(threshold),
        limit=int(limit),
        order=QueryText.Request.NEAREST_FIRST if nearest else QueryText.Request.BEST_FIRST,
        position=Point(x=x, y=y, z=z),
        position_frame=position_frame,
    )
    return _call(QueryText, service, request, timeout)


def approach(
    words: Sequence[str],
    stand_off: float = 0.0,
    robot_radius: float = 0.0,
    timeout: float = 10.0,
    service: str = names.APPROACH,
) -> ApproachPose.Response:
    """One ApproachPose call; its answer as it came. Raises ServiceError after ``timeout`` seconds."""
    request = ApproachPose.Request(words=list(words), stand_off=float(stand_off), robot_radius=float(robot_radius))
    return _call(ApproachPose, service, request, timeout)


def set_vocabulary(
    words: Sequence[str], timeout: float = 10.0, service: str = names.SET_VOCABULARY
) -> SetVocabulary.Response:
    """One SetVocabulary call; its answer as it came. Raises ServiceError after ``timeout`` seconds."""
    return _call(SetVocabulary, service, SetVocabulary.Request(words=list(words)), timeout)


def load_checkpoint(
    checkpoint: str = "", shadow: int = 0, timeout: float = 300.0, service: str = names.LOAD_CHECKPOINT
) -> LoadCheckpoint.Response:
    """One LoadCheckpoint call; its answer as it came. Relative paths are this process's. Raises ServiceError."""
    request = LoadCheckpoint.Request(checkpoint=_absolute(checkpoint), shadow=shadow)
    return _call(LoadCheckpoint, service, request, timeout, again=False)


def roll_back(timeout: float = 30.0, service: str = names.ROLLBACK) -> Trigger.Response:
    """One call of ``~/rollback``; its answer as it came. Raises ServiceError after ``timeout`` seconds."""
    return _call(Trigger, service, Trigger.Request(), timeout, again=False)


def save_map(path: str = "", timeout: float = 120.0, service: str = names.SAVE_MAP) -> SaveMap.Response:
    """One SaveMap call; its answer as it came. Relative paths are this process's. Raises ServiceError."""
    return _call(SaveMap, service, SaveMap.Request(path=_absolute(path)), timeout)


def load_map(
    path: str = "", merge: bool = False, timeout: float = 120.0, service: str = names.LOAD_MAP
) -> LoadMap.Response:
    """One LoadMap call; its answer as it came. Relative paths are this process's. Raises ServiceError."""
    request = LoadMap.Request(path=_absolute(path), merge=merge)
    return _call(LoadMap, service, request, timeout, again=not merge)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def describe(answer: QueryText.Response) -> str:
    """An answer as lines of text: the node's message, then a line for each match."""
    lines = [answer.message]
    for match in answer.matches:
        at, size = match.centroid, match.size
        lines.append(
            f"  {match.word}: score {match.score:.2f} at ({at.x:.1f}, {at.y:.1f}, {at.z:.1f}) m in "
            f"{answer.header.frame_id}, {match.distance:.1f} m away, box {size.x:.1f} x {size.y:.1f} x {size.z:.1f} m, "
            f"{match.count} voxels"
        )
    return "\n".join(lines)


def describe_approach(answer: ApproachPose.Response) -> str:
    """An approach pose as lines of text: the node's message, then the pose as a goal."""
    if answer.status != ApproachPose.Response.OK:
        return str(answer.message)
    at, turn, frame = answer.pose.pose.position, answer.pose.pose.orientation, answer.pose.header.frame_id
    yaw = math.degrees(2.0 * math.atan2(turn.z, turn.w))
    return f"{answer.message}\n  stand at ({at.x:.2f}, {at.y:.2f}, {at.z:.2f}) m in {frame}, yaw {yaw:.0f} degrees"


@contextmanager
def _node() -> Iterator[Node]:
    """A short-lived node; initialises rclpy only where the caller has not, and leaves Ctrl-C to Python."""
    mine = not rclpy.ok()
    if mine:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("ov3d_client", namespace=names.robot())
    try:
        yield node
    finally:
        node.destroy_node()
        if mine:
            rclpy.try_shutdown()


def _call(kind: type, service: str, request: Any, timeout: float, again: bool = True) -> Any:
    with _node() as node:
        client, asked = node.create_client(kind, service), node.resolve_service_name(service)
        if not client.wait_for_service(timeout_sec=timeout):
            raise ServiceError(f"No node offers {asked} after {timeout:.0f} s", _remedy(node, asked))
        answer = _answer(node, client, request, timeout, AGAIN_S if again else timeout)
        if answer is None:
            raise ServiceError(f"{service} did not answer within {timeout:.0f} s", "Look at its /diagnostics and log")
        return answer


def _remedy(node: Node, service: str) -> str:
    """How to reach a service that nobody offers under this absolute name."""
    own = "/".join(service.split("/")[-2:])  # without the robot's namespace
    known = {name for name, _ in node.get_service_names_and_types()} - {service}  # our own client made it known, too
    robots = sorted(name.removesuffix(own).strip("/") for name in known if name.endswith(f"/{own}"))
    if robots:
        calls = [f"ov3d --robot {robot}" if robot else "ov3d without --robot" for robot in robots]
        return f"Other robots do: {', '.join(calls)}"
    return "Start the nodes (ov3d up lidar, or ros2 launch ov3d_perception lidar.launch.py) in this ROS_DOMAIN_ID"


def _answer(node: Node, client: Client, request: Any, timeout: float, patience: float) -> Any | None:
    """The first answer; None if none comes. Asks again after ``patience`` seconds, and then twice as many: an answer is
    lost if the node has not discovered this client's side of it within 100 ms (github.com/ros2/ros2/issues/1253)."""
    started = time.monotonic()
    futures: list[Future] = []
    while (passed := time.monotonic() - started) < timeout:
        if passed >= patience * (2 ** len(futures) - 1):
            futures.append(client.call_async(request))
        rclpy.spin_once(node, timeout_sec=0.1)
        if answered := [future for future in futures if future.done()]:
            return answered[0].result()
    return None
