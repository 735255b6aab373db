"""``learn_node``: begins to learn the site when the robot docks, and stops when it leaves. ``docs/learning.md``.

The work is a child process, ``ov3d learn``: of the lowest priority, with few threads, and resumable, so that it can be
ended at any time and goes on at the next dock. The node itself only watches it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from ov3d_perception.bags.mcap import is_complete
from ov3d_perception.bags.storage import storage_files
from ov3d_perception.bags.writer import STORAGE
from ov3d_perception.errors import Ov3dError
from ov3d_perception.ros import parameters
from ov3d_perception.ros.diagnostics import ERROR, WARN, DiagnosticsPublisher, Health
from ov3d_perception.ros.guard import GuardedCallbacks
from ov3d_perception.ros.parameters import parameter
from ov3d_perception.ros.run import run

_UNNAMED = "The parameters site and bags are not set", "Name the site's folder, and a folder of bags"
_ENDS_S = 20.0
_AGAIN_S = 20.0  # between two attempts to begin
_QUIET_S = 30.0  # without a write, after which a bag without metadata.yaml is taken for one whose recorder died


@dataclass(frozen=True)
class LearnParameters:
    """``config/learn_node.yaml`` lists them with these defaults."""

    site: str = parameter("", "The site's folder (site.yaml, networks, reports); made if it is not there")
    bags: str = parameter("", "A bag, or a folder of bags, of which the newest one is learned")
    hours: float = parameter(8.0, "Time that one order may take", minimum=0.01, maximum=100.0)
    disk_gb: float = parameter(20.0, "Space for the teacher's features", minimum=0.1, maximum=10_000.0)
    frames: int = parameter(
        200, "At least so many scans of the bag teach, fewer than twice as many", minimum=10, maximum=100_000
    )
    threads: int = parameter(1, "Threads that compute", minimum=1, maximum=256)
    nice: int = parameter(19, "How far the work gives way to all else", minimum=0, maximum=19)
    shadow: int = parameter(
        20, "Live scans on which an accepted network is compared before it labels", minimum=0, maximum=10_000
    )
    hand_over: bool = parameter(True, "Load an accepted network into the running lidar_node")
    options: tuple[str, ...] = parameter((), "Further arguments of `ov3d learn`, such as --set points=/velodyne_points")
    diagnostics_period: float = parameter(
        1.0, "Time between two messages on /diagnostics [s]", minimum=0.05, maximum=60.0, read_only=True
    )


class LearnNode(GuardedCallbacks, Node):
    """``~/input/docked`` (true: begin, false: stop), ``~/start`` and ``~/stop``; what is said is on /diagnostics."""

    def __init__(self, **options: Any) -> None:
        super().__init__("learn_node", **options)
        parameters.declare(self, LearnParameters)
        values = parameters.read(self, LearnParameters)
        self._health = Health(f"{self.get_name()}: learning", self.get_namespace())
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._said: deque[str] = deque(maxlen=50)
        self._stopped: subprocess.Popen[str] | None = None  # by this node: how that ends is no news
        self._docked = self._heeded = False
        self.create_subscription(Bool, "~/input/docked", self._on_docked, 10)
        self.create_service(Trigger, "~/start", self._on_start)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_timer(_AGAIN_S, self._try_again, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._diagnostics = DiagnosticsPublisher(self, self._health, self._refresh, values.diagnostics_period)
        if values.site and values.bags:
            dock = self.resolve_topic_name("~/input/docked")
            self.get_logger().info(f"Learns {values.site} from the newest bag in {values.bags}, once {dock} says true")
        else:
            self.get_logger().warning(f"{_UNNAMED[0]}. {_UNNAMED[1]}.")

    def close(self) -> None:
        """End the work; it goes on at the next start."""
        self._end()

    # -- callbacks ---------------------------------------------------------------------------------------------------

    def _on_docked(self, message: Bool) -> None:
        """A change counts, not its repetition: work that is done is not begun anew each second; what could not begin
        is tried again."""
        self._docked = message.data
        self._heed()

    def _try_again(self) -> None:
        """A dock may tell only once that the robot is there."""
        self._guarded("~/input/docked", self._heed)()

    def _heed(self) -> None:
        if self._docked != self._heeded:
            self.get_logger().info(self._begin() if self._docked else self._end())
            self._heeded = self._docked

    def _on_start(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message, response.success = self._begin(), True
        return response

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message, response.success = self._end(), True
        return response

    def _refresh(self) -> None:
        child, said = self._child, list(self._said)
        state = "idle" if child is None else "at work" if child.poll() is None else f"ended ({child.returncode})"
        self._health.value("state", state)
        self._health.value("docked", self._docked)
        self._health.value("stage", next((line for line in reversed(said) if line.startswith("[")), "none"))
        self._health.value("last line", said[-1] if said else "none")

    # -- the work ----------------------------------------------------------------------------------------------------

    def _begin(self) -> str:
        """Start the child, unless it is at work; what was done. Raises Ov3dError for parameters that do not suffice."""
        with self._lock:
            if self._child is not None and self._child.poll() is None:
                return "Learning is at work already"
            values = parameters.read(self, LearnParameters)
            bag = newest_bag(values)
            self._said.clear()
            self._health.clear("learning")
            environment = {**os.environ, "OMP_NUM_THREADS": str(values.threads), "PYTHONUNBUFFERED": "1"}
            self._child = subprocess.Popen(
                command(values, bag),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            assert self._child.stdout is not None
            self._reader = threading.Thread(target=self._read, args=(self._child, self._child.stdout), daemon=True)
            self._reader.start()
            return f"Learning {values.site} from {bag}"

    def _end(self) -> str:
        """End the child and all that it started; what it has done so far is kept."""
        with self._lock:
            child = self._child
            if child is None or child.poll() is not None:
                return "Nothing is being learned"
            self._stopped = child
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(_ENDS_S)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)  # harmless: every stage is written at its end, in one step
                child.wait()
            return "Stopped; it goes on where it was at the next start"

    def _read(self, child: subprocess.Popen[str], stream: IO[str]) -> None:
        for line in stream:
            text = line.rstrip().rpartition("\r")[2]  # of a progress bar, its last state
            if text:
                self._said.append(text)
                if text.startswith("["):
                    self.get_logger().info(text)
        code = child.wait()
        last = self._said[-1] if self._said else "It said nothing"
        if code == 0:
            self._health.count("accepted")
            self.get_logger().info(f"Learned: {last}")
        elif code == 1:
            self._health.count("not accepted")
            self._health.set("learning", WARN, f"The network that was learned is not in force. {last}")
        elif code > 0:
            self._health.count("failed")
            self._health.set("learning", ERROR, f"Learning ended with {code}: {last}")
        elif child is not self._stopped:
            self._health.count("failed")
            again = "Was it out of memory? At the next start it goes on where it was"
            self._health.set("learning", ERROR, f"Learning was ended by {signal.Signals(-code).name}: {last}. {again}.")


def newest_bag(values: LearnParameters) -> Path:
    """The bag to learn. Raises Ov3dError where none is named or none is there, and where it is still being recorded."""
    if not values.site or not values.bags:
        raise Ov3dError(*_UNNAMED)
    root = Path(values.bags).expanduser()
    found = [root] if _is_bag(root) else [path for path in root.glob("*") if _is_bag(path)]
    if not found:
        raise Ov3dError(f"There is no bag in {root}", "Record one: ov3d bag record FOLDER, or correct `bags`")
    bag = max(found, key=lambda path: path.stat().st_mtime)
    if is_being_recorded(bag):
        raise Ov3dError(
            f"{bag} is still being recorded: it has no metadata.yaml, and was written to in the last {_QUIET_S:.0f} s",
            "It is learned when its recorder has ended, or some time after that has died; at the dock by itself",
        )
    return bag


def is_being_recorded(bag: Path) -> bool:
    """Whether it is not whole, and grows. A recorder that died leaves no metadata.yaml either, but writes no more."""
    if bag.is_dir():
        files = [] if (bag / "metadata.yaml").is_file() else list(bag.iterdir())
    else:
        files = [bag] if bag.suffix != ".mcap" or not is_complete(bag) else []
    return any(abs(time.time() - file.stat().st_mtime) < _QUIET_S for file in files)


def _is_bag(path: Path) -> bool:
    """A file of a bag's storage, or a folder that holds one. What may not be read (lost+found of a disk) is none."""
    with suppress(PermissionError):
        if path.is_dir():
            return bool(storage_files(path))
        return path.is_file() and Path(path.name.removesuffix(".zstd")).suffix in STORAGE
    return False


def command(values: LearnParameters, bag: Path) -> Sequence[str]:
    """The command line of the child."""
    words = [
        sys.executable,
        "-m",
        "ov3d_perception.cli",
        "learn",
        str(Path(values.site).expanduser()),
        "--bag",
        str(bag),
    ]
    words += ["--hours", str(values.hours), "--disk", str(values.disk_gb), "--frames", str(values.frames)]
    words += ["--nice", str(values.nice)]
    if values.hand_over:
        words += ["--live", "--shadow", str(values.shadow)]
    return [*words, *(word for option in values.options for word in option.split())]


def main() -> None:
    """Entry point of the ``learn_node`` executable."""
    run(LearnNode)


if __name__ == "__main__":
    main()
