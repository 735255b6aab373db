"""``ov3d doctor --live``: what the running robot sends, recorded and examined; who cannot hear whom."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible

from ov3d_perception.doctor.examine import Examination, examine
from ov3d_perception.doctor.report import Finding, Report, Severity
from ov3d_perception.ros.contexts import own_context
from ov3d_perception.ros.tools.bag_recorder import record_bag

_QUIET_S = 2.0  # discovery is over where nothing new was announced for so long
_DISCOVERY_S = 15.0  # and is not waited for any longer than this


def examine_live(how: Examination, seconds: float, use_sim_time: bool = False) -> Report:
    """Listen for so many seconds, then examine what came. Raises BagError where there is no room for the recording.

    Who is there is watched from the beginning: on a busy machine discovery takes longer than the recording.
    """
    with tempfile.TemporaryDirectory(prefix="ov3d_doctor_") as folder, own_context() as (context, _):
        bag = Path(folder) / "live"
        node = rclpy.create_node("doctor", context=context)
        try:
            recorded = record_bag(bag, seconds=seconds, points=how.points, use_sim_time=use_sim_time)
            _wait_for_discovery(node, heard=recorded.written.keys())
            findings = list(deaf_topics(node))
        finally:
            node.destroy_node()
        if not recorded.written.total():
            nothing = Finding(
                Severity.ERROR, "topics", "live", f"no message came in {seconds:g} s", "Nothing can be learned",
                "Start the drivers; look at ROS_DOMAIN_ID, the network, and `ros2 topic list`",
            )  # fmt: skip
            return Report.of("live", [*findings, nothing])
        return Report.of("live", [*findings, *examine(bag, how).findings])


def _wait_for_discovery(node: Node, heard: Collection[str]) -> None:
    """Until the node knows a publisher of each topic that was heard, and nobody new has been announced for a while."""
    known: dict[str, tuple[int, int]] = {}
    now = changed = time.monotonic()
    end = now + _DISCOVERY_S
    while now < end:
        ends = {
            topic: (node.count_publishers(topic), node.count_subscribers(topic))
            for topic, _ in node.get_topic_names_and_types()
        }
        now = time.monotonic()
        if ends != known:
            known, changed = ends, now
        elif now - changed >= _QUIET_S and all(known.get(topic, (0, 0))[0] for topic in heard):
            return
        time.sleep(0.1)


def deaf_topics(node: Node) -> Iterator[Finding]:
    """Topics of which a subscriber asks for more than a publisher offers, so that nothing is ever heard."""
    for topic, _ in node.get_topic_names_and_types():
        for publisher in node.get_publishers_info_by_topic(topic):
            for subscriber in node.get_subscriptions_info_by_topic(topic):
                fit, reason = qos_check_compatible(publisher.qos_profile, subscriber.qos_profile)
                if fit == QoSCompatibility.ERROR:
                    yield Finding(
                        Severity.ERROR, "qos", topic,
                        f"{_name(subscriber)} never hears {_name(publisher)}: {reason.strip()}",
                        "The name is right and the quality of service is not: nothing arrives, and nobody says so",
                        "Subscribe with best effort (sensor data) and volatile, or offer reliable and transient_local",
                    )  # fmt: skip


def _name(end: object) -> str:
    return f"{getattr(end, 'node_namespace', '').rstrip('/')}/{getattr(end, 'node_name', '?')}"
