"""The clouds of a bag: which one is taken, and what to say where it is not there or not clear."""

from __future__ import annotations

from ov3d_perception.bags import livox
from ov3d_perception.bags.cameras import CLOUD
from ov3d_perception.bags.reader import Bag
from ov3d_perception.errors import DatasetError

#: Types that are read as clouds.
CLOUDS = (CLOUD, *livox.TYPES)
_OPTION = "points=NAME, where a command has the option --points NAME"
#: Types that LiDAR drivers send in the place of PointCloud2 (without package), and how to get a PointCloud2.
_REMEDIES = {
    "LaserScan": "A 2D scan is no 3D cloud: record a 3D LiDAR",
    "PointCloud": "Convert it with point_cloud_converter, then record the PointCloud2",
    "VelodyneScan": "Run velodyne_pointcloud's transform node beside the bag, record its PointCloud2",
    "PacketMsg": "Run ouster_ros' os_cloud node beside the bag, record its PointCloud2",
    "UdpFrame": "Run the Hesai driver beside the bag, record its PointCloud2",
    "RslidarScan": "Run rslidar_sdk beside the bag, record its PointCloud2",
}


def cloud_topics(bag: Bag) -> list[str]:
    """The topics that are read as clouds and hold some, without the simulator's ground truth; /points, then by name."""
    held = (topic for topic in _announced(bag) if bag.topics[topic].count)
    return sorted(held, key=lambda topic: topic != "/points")


def choose_cloud(bag: Bag, wanted: str | None = None) -> str:
    """The topic of the LiDAR's clouds: ``wanted``, with or without its first slash; else /points, else the only one.

    wanted: None or "" asks for none. Raises DatasetError where there is no such cloud, or several and none is asked
    for.
    """
    clouds = cloud_topics(bag)
    if wanted:
        topic = wanted if wanted in bag.topics else f"/{wanted.lstrip('/')}"
        if topic not in clouds:
            raise no_cloud(bag, topic)
        return topic
    if not clouds:
        raise no_cloud(bag, None)
    if len(clouds) > 1 and clouds[0] != "/points":
        raise DatasetError(f"{bag.path} has several clouds: {', '.join(clouds)}", f"Name the LiDAR's: {_OPTION}")
    return clouds[0]


def _announced(bag: Bag) -> list[str]:
    """With those that hold no message: rosbag2 stores what was subscribed to, also where nothing came."""
    return [topic for topic in bag.topics_of(*CLOUDS) if not topic.startswith("/ground_truth/")]


def no_cloud(bag: Bag, wanted: str | None) -> DatasetError:
    """The error for a bag whose ``wanted`` topic (None: any) is no PointCloud2, or holds none."""
    empty = [topic for topic in _announced(bag) if not bag.topics[topic].count and wanted in (None, topic)]
    if empty:
        return DatasetError(
            f"{bag.path} holds no message of {', '.join(empty)}", "Record it while the LiDAR's driver publishes"
        )
    if wanted is not None and (topic := bag.topics.get(wanted)) is not None:
        return DatasetError(f"{wanted} of {bag.path} is {topic.msgtype}, not {CLOUD}", _remedy(topic.msgtype))
    clouds = cloud_topics(bag)
    if wanted is not None and clouds:
        return DatasetError(f"{bag.path} has no topic {wanted}", f"Its clouds are {', '.join(clouds)}: {_OPTION}")
    near = [topic for topic in bag.topics.values() if topic.msgtype.split("/")[-1] in _REMEDIES]
    cause = f"{bag.path} has no point cloud ({CLOUD})"
    if near:
        return DatasetError(f"{cause}; {near[0].name} is {near[0].msgtype}", _remedy(near[0].msgtype))
    topics = ", ".join(f"{topic.name} ({topic.msgtype})" for topic in bag.topics.values()) or "no topic"
    return DatasetError(f"{cause}; it has {topics}", "Record the LiDAR's PointCloud2 topic")


def registered(topic: str, frame: str, base_frame: str) -> str:
    """What to say of clouds in a frame in which the robot moves, such as the map that LiDAR odometry builds."""
    return (
        f"{topic} is in '{frame}', in which '{base_frame}' moves, not in the sensor's frame, from which a network sees "
        "ground and distances. Name the LiDAR's own cloud: points="
    )


def _remedy(msgtype: str) -> str:
    return _REMEDIES.get(msgtype.split("/")[-1], f"Name a PointCloud2 topic ({_OPTION}), or record one")
