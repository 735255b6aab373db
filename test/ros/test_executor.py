"""A callback that waits for a free thread is handed over once."""

from __future__ import annotations

import threading
import time

import pytest

rclpy = pytest.importorskip("rclpy")
std_msgs = pytest.importorskip("std_msgs.msg")
room = pytest.importorskip("ov3d_perception.ros.executor", exc_type=ImportError)

pytestmark = pytest.mark.live


@pytest.mark.parametrize("late", ["message", "task"])
def test_a_callback_that_waits_for_a_thread_is_handed_over_once(
    ros_domain: int, late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both threads are busy when a third callback is due; rclpy's own executor hands it over again and again."""
    handed: list[object] = []
    submit = room._Pool.submit
    monkeypatch.setattr(room._Pool, "submit", lambda pool, task: handed.append(task) or submit(pool, task))
    at_work, release, ran = threading.Semaphore(0), threading.Event(), threading.Event()

    def work() -> None:
        at_work.release()
        release.wait(30.0)

    context = rclpy.Context()
    rclpy.init(context=context)
    executor = room.NodeExecutor(2, context)
    server = threading.Thread(target=executor.spin, daemon=True)
    try:
        node = rclpy.create_node("busy", context=context)
        node.create_subscription(std_msgs.String, "~/late", lambda message: ran.set(), 10)
        publisher = node.create_publisher(std_msgs.String, "~/late", 10)
        executor.add_node(node)
        for _ in range(2):
            executor.create_task(work)
        server.start()
        assert at_work.acquire(timeout=30.0) and at_work.acquire(timeout=30.0)
        before = len(handed)
        if late == "task":
            executor.create_task(ran.set)
        else:
            publisher.publish(std_msgs.String(data="late"))
        time.sleep(0.5)
        assert not ran.is_set() and len(handed) - before <= 2  # an event of the middleware may be due, too
        release.set()
        assert ran.wait(30.0)
    finally:
        release.set()
        executor.shutdown(5.0)
        rclpy.try_shutdown(context=context)
        server.join(30.0)
    assert not server.is_alive()
