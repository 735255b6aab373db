"""The end of a node by a signal: what is at work then still has the graph, and nothing is red. How its process shares
the machine: it gives way, and its garbage collector does not stop it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy")
std_msgs = pytest.importorskip("std_msgs.msg")
run = pytest.importorskip("ov3d_perception.ros.run", exc_type=ImportError)

pytestmark = pytest.mark.live

#: A timer, a subscription and the node's own thread are in the middle of their work when the signal comes, and publish
#: when closing has begun, or at its end. The order is by events: no time is waited for, except where closing ends.
NODE = """
import os, signal, sys, threading
import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_msgs.msg import String
from ov3d_perception.ros import run as room

class Busy(Node):
    def __init__(self):
        super().__init__("busy")
        self.closing, self.done, self.at_work = threading.Event(), threading.Event(), threading.Semaphore(0)
        self.output = self.create_publisher(String, "~/output", 10)
        group = ReentrantCallbackGroup()
        self.create_subscription(String, "~/output", self.on_message, 10, callback_group=group)
        self.timer = self.create_timer(0.01, self.on_timer, callback_group=group)
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        self.closing.wait()
        self.say("thread")

    def on_timer(self):
        self.timer.cancel()
        self.say("first")  # which on_message gets
        self.at_work.release()
        self.closing.wait()
        self.say("timer")

    def on_message(self, message):
        if message.data != "first":
            return
        self.at_work.acquire()
        os.kill(os.getpid(), signal.SIGINT)
        self.closing.wait()
        self.say("subscription")
        self.done.wait(SECONDS)  # longer than closing takes: the executor waits for it

    def say(self, text):
        self.output.publish(String(data=text))
        self.get_logger().info("published " + text)

    def close(self):
        self.closing.set()
        self.thread.join()
        self.say("close")

room.run(Busy)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_what_is_at_work_when_a_signal_comes_can_finish(ros_domain: int, tmp_path: Path, seconds: float) -> None:
    environment = {**os.environ, "ROS_HOME": str(tmp_path), "ROS_LOG_DIR": str(tmp_path)}
    code = NODE.replace("SECONDS", str(seconds))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    for word in ("first", "thread", "timer", "subscription", "close"):
        assert f"published {word}" in said
    assert not [word for word in ("Traceback", "[ERROR]", "[WARN]", "invalid") if word in said], said


_AUTOGROUP = Path("/proc/self/autogroup")
_TELL = """
import os
from pathlib import Path
from ov3d_perception.ros.run import give_way
give_way({nice})
print(os.nice(0))
print(Path("/proc/self/autogroup").read_text().split()[-1])
"""


@pytest.mark.skipif(not _AUTOGROUP.is_file(), reason="a kernel without autogroup")
@pytest.mark.parametrize("own_session", [True, False])
def test_a_process_gives_way_and_its_session_only_where_it_is_alone_in_it(own_session: bool) -> None:
    command = [sys.executable, "-c", _TELL.format(nice=5)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=own_session)
    before = 0 if own_session else int(_AUTOGROUP.read_text().split()[-1])
    assert done.stdout.split() == ["5", str(5 if own_session else before)]


def test_what_is_loaded_is_not_collected_again_and_what_comes_later_is() -> None:
    loaded = [[] for _ in range(1000)]
    run.keep_loaded()
    try:
        tracked = {id(thing) for thing in gc.get_objects()}
        assert not any(id(thing) in tracked for thing in loaded)
        circle: list[object] = []
        circle.append(circle)
        del circle
        assert gc.collect() >= 1
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("late", ["message", "task"])
def test_a_callback_that_waits_for_a_thread_is_handed_over_once(
    ros_domain: int, late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both threads are busy when a third callback is due; rclpy's own executor hands it over again and again."""
    handed: list[object] = []
    submit = run._Pool.submit
    monkeypatch.setattr(run._Pool, "submit", lambda pool, task: handed.append(task) or submit(pool, task))
    at_work, release, ran = threading.Semaphore(0), threading.Event(), threading.Event()

    def work() -> None:
        at_work.release()
        release.wait(30.0)

    context = rclpy.Context()
    rclpy.init(context=context)
    executor = run.NodeExecutor(2, context)
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
