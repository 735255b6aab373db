"""The end of a node by a signal: what is at work then still has the graph, and nothing is red. How its process shares
the machine: it gives way, and its garbage collector does not stop it. And its start: others see it while libraries
load."""

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


#: The order: the node is in the graph, then its library loads in the main thread, then callbacks come.
STARTS = """
import os, signal, sys, threading
from pathlib import Path
from rclpy.node import Node
from ov3d_perception.ros import run as room

Path("slow_library.py").write_text(
    "import threading; print('library', threading.current_thread() is threading.main_thread(), flush=True)"
)
sys.path.insert(0, os.getcwd())

class Early(Node):
    def __init__(self):
        super().__init__("early")
        print("node", "slow_library" in sys.modules, flush=True)
        self.create_timer(0.0, self.on_timer)

    def on_timer(self):
        print("callback", "slow_library" in sys.modules, flush=True)
        os.kill(os.getpid(), signal.SIGINT)

    def close(self):
        pass

room.run(Early, libraries=["slow_library"])
"""


def test_libraries_load_when_the_node_is_made_and_before_its_first_callback(ros_domain: int, tmp_path: Path) -> None:
    environment = {**os.environ, "ROS_HOME": str(tmp_path), "ROS_LOG_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", STARTS], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120
    )
    said = result.stdout.splitlines()
    assert said[:3] == ["node False", "library True", "callback True"], result.stdout + result.stderr


def test_lidar_node_is_in_the_graph_before_pytorch_is_imported(ros_domain: int, tmp_path: Path) -> None:
    code = (
        "import sys, rclpy; from ov3d_perception.ros.lidar_node import LidarNode\n"
        "rclpy.init(); node = LidarNode(); print(node.get_node_names(), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "ROS_HOME": str(tmp_path), "ROS_LOG_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert result.stdout.splitlines()[-1] == "['lidar_node'] False", result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["-r", "__ns:=/my-robot"], "__ns:=/my-robot"), (["--params-file", "notes.txt"], "Couldn't parse params file")],
)
def test_arguments_that_ros_cannot_read_are_one_line(
    ros_domain: int, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "notes.txt").write_text("import this\nnot: [yaml")
    environment = {**os.environ, "ROS_HOME": str(tmp_path), "ROS_LOG_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "ov3d_perception.ros.learn_node", "--ros-args", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert "The node does not start" in result.stderr and said in result.stderr
