"""Learn the site while the robot is docked: ``learn_node``, beside the nodes of ``lidar.launch.py``.

``ros2 launch ov3d_perception learn.launch.py site:=/data/site bags:=/data/bags docked:=/dock/docked``
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from ov3d_perception.ros.tools.systems import LEARN


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    given = {
        "site": ParameterValue(LaunchConfiguration("site"), value_type=str),
        "bags": ParameterValue(LaunchConfiguration("bags"), value_type=str),
        "hours": ParameterValue(LaunchConfiguration("hours"), value_type=float),
    }
    node = Node(
        package="ov3d_perception",
        executable=LEARN.name,
        name=LEARN.name,
        parameters=[str(LEARN.parameter_file), given],
        remappings=[("~/input/docked", LaunchConfiguration("docked"))],
        output="screen",
        emulate_tty=True,
        sigterm_timeout="30",  # time for the work to end
    )
    arguments = [
        DeclareLaunchArgument("site", description="the site's folder"),
        DeclareLaunchArgument("bags", description="a bag, or a folder of bags, of which the newest one is learned"),
        DeclareLaunchArgument("hours", default_value="8.0", description="time that one order may take"),
        DeclareLaunchArgument("docked", default_value="docked", description="topic (std_msgs/Bool): true at the dock"),
    ]
    return LaunchDescription([*arguments, node])
