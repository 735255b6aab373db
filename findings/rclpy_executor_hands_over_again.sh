#!/usr/bin/env bash
# rclpy 7.1.5 (ros-jazzy-rclpy 7.1.6 on PyPI), MultiThreadedExecutor: while all its threads are busy, ONE waiting callback is
# handed to the thread pool again and again: the executor looks for work, finds the callback that no thread has begun, and
# submits it once more, some thousand times a second, with the interpreter's lock. It runs once. A node with as many
# threads as long callbacks so burns half a core or more exactly when it is busiest; its other threads wait for the lock.
# (ros2/rclpy pull request 1547.) A pool whose submit() returns when the call has begun avoids it.
# Seen here: one message, two busy threads: 1,505 hand-overs in a second, 0.49 s of processor time, one run.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q "ros-jazzy-rclpy[fastrtps]==7.1.6" ros-jazzy-std-msgs==5.3.6
ROS_DOMAIN_ID=87 ROS_LOG_DIR="$tmp" "$tmp/venv/bin/python" - <<'PYTHON'
import sys
import threading
import time

import rclpy
from rclpy.executors import MultiThreadedExecutor
from std_msgs.msg import String

rclpy.init()
node = rclpy.create_node("busy")
executor = MultiThreadedExecutor(num_threads=2)
handed, submit = [], executor._executor.submit
executor._executor.submit = lambda *call: handed.append(call) or submit(*call)
at_work, release, runs = threading.Semaphore(0), threading.Event(), []


def work() -> None:
    at_work.release()
    release.wait(30.0)


node.create_subscription(String, "~/late", lambda message: runs.append(message), 10)
publisher = node.create_publisher(String, "~/late", 10)
executor.add_node(node)
for _ in range(2):
    executor.create_task(work)
server = threading.Thread(target=executor.spin, daemon=True)
server.start()
assert at_work.acquire(timeout=30) and at_work.acquire(timeout=30)
before, began = len(handed), time.process_time()
publisher.publish(String(data="late"))
time.sleep(1.0)
again, spent = len(handed) - before, time.process_time() - began
release.set()
time.sleep(1.0)
print(f"{again} hand-overs in a second, {spent:.2f} s of processor time, {len(runs)} run")
executor.shutdown(5.0)
rclpy.try_shutdown()
sys.exit(0 if again > 100 and len(runs) == 1 else 1)
PYTHON
