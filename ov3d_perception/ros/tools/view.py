"""``ov3d view``: what the nodes publish as a Rerun stream; a line typed is a question to the map."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import numpy as np
from jaxtyping import UInt8
from nav_msgs.msg import OccupancyGrid
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from ov3d_msgs.srv import QueryText
from ov3d_perception.bags.pointcloud2 import structured
from ov3d_perception.errors import Ov3dError, TransformError
from ov3d_perception.ros import names, qos
from ov3d_perception.ros.contexts import own_context
from ov3d_perception.ros.messages import message_to_box, message_to_grid, stamp_to_ns
from ov3d_perception.ros.tools.client import describe
from ov3d_perception.ros.transforms import listen
from ov3d_perception.viz.live import LiveStream

_POLL_S = 0.1


def view(save: Path | None = None, seconds: float = 0.0, lines: TextIO = sys.stdin) -> int:
    """Until a signal, or for ``seconds``. ``lines``: questions, one a line, words parted by commas; its end is no end.

    Raises Ov3dError if there is nothing to show it with. Returns the exit status.
    """
    stream = LiveStream(save)
    try:
        with own_context() as (context, stopped):
            viewer = Viewer(context, stream)
            questions: queue.SimpleQueue[str] = queue.SimpleQueue()
            threading.Thread(target=_read, args=(lines, questions), daemon=True).start()
            end = time.monotonic() + (seconds or float("inf"))
            print("Type what to look for, such as: car, traffic cone", flush=True)
            while not stopped.is_set() and time.monotonic() < end:
                viewer.spin(_POLL_S)
                while not questions.empty():
                    viewer.ask(questions.get())
            viewer.close()
    finally:
        stream.close()
    return 0


class Viewer:
    """A node that hands on to the stream what it hears, and asks the map."""

    def __init__(self, context: Context, stream: LiveStream, say: Callable[[str], None] = print) -> None:
        self._stream, self._say = stream, say
        self._node = Node("ov3d_view", context=context, namespace=names.robot())
        self._transforms = listen(self._node)
        self._waiting: PointCloud2 | None = None
        self._complained = False
        subscribe = self._node.create_subscription
        subscribe(PointCloud2, names.LABELLED_POINTS, self._on_scan, qos.SENSOR)
        subscribe(PointCloud2, names.MAP_CLOUD, self._on_map, qos.OUTPUT)
        subscribe(OccupancyGrid, names.COSTMAP_MASK, self._on_mask, qos.LATCHED)
        self._client = self._node.create_client(QueryText, names.QUERY)
        self._map_frame = "map"
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)

    def spin(self, seconds: float) -> None:
        """Handle what comes within that time, at most one message."""
        self._executor.spin_once(timeout_sec=seconds)
        self._show_scan()

    def ask(self, line: str) -> None:
        """The answer appears when it comes."""
        words = [word.strip() for word in line.split(",") if word.strip()]
        if not words:
            return
        if not self._client.service_is_ready():
            self._say(f"No node offers {self._node.resolve_service_name(names.QUERY)}. Start map_node: ov3d up lidar")
            return
        future = self._client.call_async(QueryText.Request(words=words))
        future.add_done_callback(lambda done: self._on_answer(", ".join(words), done.result()))

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._transforms.close()
        self._node.destroy_node()

    def _on_answer(self, question: str, answer: QueryText.Response) -> None:
        self._map_frame = answer.header.frame_id or self._map_frame
        boxes = [message_to_box(match) for match in answer.matches]
        self._stream.answers(stamp_to_ns(answer.header.stamp), question, boxes, answer.message)
        self._say(describe(answer))

    def _on_scan(self, message: PointCloud2) -> None:
        if (error := self._show_scan()) and not self._complained:
            self._say(f"Scans without a place in '{self._map_frame}' are not shown. {error}")
            self._complained = True
        self._waiting = message

    def _show_scan(self) -> TransformError | None:
        """Show the newest scan as soon as its place is known: the transform of its stamp may come after it."""
        if self._waiting is None:
            return None
        message, self._waiting = self._waiting, None
        stamp = stamp_to_ns(message.header.stamp)
        try:
            T_map_sensor = self._transforms.lookup(self._map_frame, message.header.frame_id, stamp)
            self._stream.scan(stamp, *_coloured(message), T_map_sensor)
        except TransformError as error:
            self._waiting = message
            return error
        except Ov3dError as error:
            self._say(str(error))
        return None

    def _on_map(self, message: PointCloud2) -> None:
        self._map_frame = message.header.frame_id
        self._stream.voxels(stamp_to_ns(message.header.stamp), *_coloured(message))

    def _on_mask(self, message: OccupancyGrid) -> None:
        _, values = message_to_grid(message)
        self._stream.mask(stamp_to_ns(message.header.stamp), values)


def _coloured(message: PointCloud2) -> tuple[np.ndarray, UInt8[np.ndarray, "n 3"]]:
    """xyz and colours of a cloud with the field rgb."""
    points = structured(message)
    packed = np.ascontiguousarray(points["rgb"]).view(np.uint32)
    rgb = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], 1).astype(np.uint8)
    return np.stack([points[axis] for axis in "xyz"], 1), rgb


def _read(lines: TextIO, questions: queue.SimpleQueue[str]) -> None:
    for line in lines:
        questions.put(line)
