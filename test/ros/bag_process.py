"""Player and recorder as processes of a test."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ov3d_perception.bags import messages as bag_messages
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.ros.tools.up import restore_signals

S = 1_000_000_000
START = 1_700_000_000 * S
PLAY = (
    "import sys, json; from ov3d_perception.ros.tools.bag_player import play; "
    "play(sys.argv[1], **json.loads(sys.argv[2]))"
)
RECORD = (
    "import sys, json; from ov3d_perception.ros.tools.bag_recorder import record; "
    "sys.exit(record(sys.argv[1], **json.loads(sys.argv[2])))"
)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.5 s at 10 Hz on /bag/...: five clouds (x = number of the scan), transforms, a latched one, a foreign type."""
    path = tmp_path_factory.mktemp("bag") / "drive"
    with BagWriter(path) as bag:
        bag.write("/bag/tf_static", bag_messages.tf_message([("base", "lidar", START, np.eye(4))]), START)
        for index in range(5):
            stamp = START + index * S // 10
            T = np.eye(4)
            T[0, 3] = index
            bag.write("/bag/tf", bag_messages.tf_message([("odom", "base", stamp, T)]), stamp)
            columns = {name: np.full(20_000, index + 1, np.float32) for name in ("x", "y", "z", "intensity")}
            bag.write("/bag/points", bag_messages.point_cloud(columns, stamp, "lidar"), stamp)
    return path


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., subprocess.Popen]]:
    """start(script, path, **arguments): a process that is gone when the test is."""
    with contextlib.ExitStack() as stack:

        def run(script: str, path: Path, **arguments: Any) -> subprocess.Popen:
            command = [sys.executable, "-c", script, str(path), json.dumps(arguments)]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=restore_signals
            )
            stack.callback(end, process)
            return process

        yield run


def end(process: subprocess.Popen, number: int = signal.SIGINT) -> str:
    """Its output, once it has ended after a signal."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"does not end after signal {number}: {process.communicate()[0]}")
