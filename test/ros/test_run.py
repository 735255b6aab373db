"""The end of a node by a signal: what is at work then still has the graph, and nothing is red. How its process shares
the machine: it gives way, and its garbage collector does not stop it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
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


def test_what_is_loaded_is_not_collected_again_and_what_comes_later_is() -> None:
    loaded = [[] for _ in range(1000)]
    gc.disable()  # as start.py does
    run.keep_loaded()
    try:
        tracked = {id(thing) for thing in gc.get_objects()}
        assert not any(id(thing) in tracked for thing in loaded)
        circle: list[object] = []
        circle.append(circle)
        del circle
        assert gc.isenabled() and gc.collect() >= 1
    finally:
        gc.unfreeze()
        gc.enable()
