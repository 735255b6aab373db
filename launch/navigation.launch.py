"""lidar.launch.py and what Nav2 takes from it: the filtered cloud, the costmap filter's mask, approach poses.

    ros2 launch ov3d_perception navigation.launch.py costs:="['grass: 60', 'sidewalk: 100']"

All arguments of lidar.launch.py work here, too. Nav2 itself is yours to start, with the parameters that
docs/navigation.md shows. Without ``launch`` (pip installation) the same is ``ov3d up navigation ...``.
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from ov3d_perception.paths import share_dir


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    lidar = PythonLaunchDescriptionSource(str(share_dir() / "launch" / "lidar.launch.py"))
    return LaunchDescription([IncludeLaunchDescription(lidar, launch_arguments={"filter": "true"}.items())])
