"""Record what training needs (points, images, camera_info, tf, odom); Ctrl-C closes the bag.

``ros2 launch ov3d_perception record.launch.py out:=/data/drive_01 points:=/velodyne_points``
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

from ov3d_perception.ros.environment import large_message_environment


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    ov3d = ExecutableInPackage(executable="ov3d", package="ov3d_perception")
    recorder = ExecuteProcess(
        cmd=[
            *(ov3d, "bag", "record", LaunchConfiguration("out"), "--points", LaunchConfiguration("points")),
            *("--split", LaunchConfiguration("split"), "--keep", LaunchConfiguration("keep")),
        ],
        output="screen",
        sigterm_timeout="30",  # time to write what is queued, before launch insists
        sigkill_timeout="30",
    )
    environment = [SetEnvironmentVariable(name, value) for name, value in large_message_environment().items()]
    arguments = [
        DeclareLaunchArgument("out", description="folder to write the bag to; must not exist"),
        DeclareLaunchArgument("split", default_value="", description="begin another bag after so long: 10min"),
        DeclareLaunchArgument("keep", default_value="", description="keep the last so long only: 30min"),
        DeclareLaunchArgument("points", default_value="", description="topic of the LiDAR; empty: every cloud"),
    ]
    return LaunchDescription([*arguments, *environment, recorder])
