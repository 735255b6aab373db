"""What a bag's sensors send, as ``ov3d bag info`` tells it: clouds, point times, clocks, which way is up, TF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from ov3d_perception.bags.cloud_reader import CloudReader, describe, faults
from ov3d_perception.bags.clouds import cloud_topics, registered
from ov3d_perception.bags.pointcloud2 import Cloud
from ov3d_perception.bags.reader import Bag
from ov3d_perception.bags.streams import IMU, clock_fault, read_gravity, read_stream, read_tf_stream
from ov3d_perception.errors import Ov3dError, PointCloudError
from ov3d_perception.geometry.transform_tree import TransformTree
from ov3d_perception.geometry.upright import Upright

_FIRST = 50  # messages of a topic that are looked at


def sensor_notes(bag: Bag, tree: TransformTree, images: Iterable[str]) -> list[str]:
    """One line a fact. images: topics of the cameras' images. What cannot be read is told, never raised."""
    notes = [f"TF: {fault}" for fault in (*tree.skipped, *tree.parent_faults, *tree.gaps)]
    clouds = cloud_topics(bag)
    for topic in clouds:
        try:
            notes += [f"{topic}: {line}" for line in _of_cloud(bag, tree, topic)]
        except Ov3dError as error:
            notes.append(f"{topic}: {error}")
    if clouds:
        lidar = read_stream(bag, clouds[0], _FIRST)
        for topic in images:
            if bag.topics[topic].count and (fault := clock_fault(read_stream(bag, topic, _FIRST), lidar)):
                notes.append(f"{topic}: {fault}")
    return notes


def _first_cloud(bag: Bag, topic: str, reader: CloudReader) -> Cloud:
    """The first cloud that has points; drivers send empty ones while they start."""
    for message in islice(bag.messages([topic]), _FIRST):
        try:
            return reader.read(message.decode())
        except PointCloudError as error:
            problem = error
    raise problem


def _of_cloud(bag: Bag, tree: TransformTree, topic: str) -> Iterator[str]:
    stream, tf = read_stream(bag, topic, _FIRST), read_tf_stream(bag, _FIRST)
    if tf is not None and (fault := clock_fault(stream, tf)):
        yield fault
    imus = [imu for imu in bag.topics_of(IMU) if bag.topics[imu].count]
    upright = Upright(gravity=read_gravity(bag, imus[0], 10 * _FIRST) if imus else None)
    cloud = _first_cloud(bag, topic, CloudReader(period=stream.period_s))
    yield describe(cloud)
    if tree.moves_under(cloud.scan.frame_id, upright.base_frame):
        yield registered("it", cloud.scan.frame_id, upright.base_frame)
    yield from faults(cloud).values()
    tolerance_ns = 100_000_000
    yield upright.apply(cloud.scan, lambda to, of, at: tree.lookup(to, of, at, tolerance_ns))[1]
