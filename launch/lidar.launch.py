"""The nodes of a robot: lidar_node, map_node and, on request, cloud_filter_node and RViz.

    ros2 launch ov3d_perception lidar.launch.py points:=/velodyne_points device:=cuda vocabulary:="[car, tree, road]"

Without ``launch`` (pip installation) the same is ``ov3d up lidar points:=/velodyne_points device:=cuda ...``.
"""

from __future__ import annotations

import yaml
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from ov3d_perception.paths import share_dir
from ov3d_perception.ros.environment import large_message_environment
from ov3d_perception.ros.tools.systems import CLOUD_FILTER, LIDAR, MAP, POINTS_DESCRIPTION, SHORT, parse_overrides


def start_nodes(context: LaunchContext) -> list[Action]:
    """The nodes with their YAML and what the launch arguments change."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("points", *SHORT)}
    overrides = parse_overrides(given)
    switches = ((MAP, "map"), (CLOUD_FILTER, "filter"))
    switched_on = [spec for spec, name in switches if yaml.safe_load(LaunchConfiguration(name).perform(context))]
    return [
        Node(
            package="ov3d_perception",
            executable=spec.name,
            name=spec.name,
            parameters=[
                str(spec.parameter_file),
                {name: yaml.safe_load(value) for name, value in overrides.parameters[spec.name].items()},
            ],
            remappings=list(overrides.remappings(spec).items()),
            output="screen",
            emulate_tty=True,
            sigterm_timeout="15",  # a node finishes the scan at work before it ends
        )
        for spec in (LIDAR, *switched_on)
    ]


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    arguments = [DeclareLaunchArgument("points", default_value="/points", description=POINTS_DESCRIPTION)]
    arguments += [
        DeclareLaunchArgument(name, default_value="", description=description)
        for name, (_, description) in SHORT.items()
    ]
    arguments += [
        DeclareLaunchArgument("map", default_value="true", description="start map_node"),
        DeclareLaunchArgument("filter", default_value="false", description="start cloud_filter_node"),
        DeclareLaunchArgument("rviz", default_value="false", description="start RViz with config/ov3d.rviz"),
    ]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(share_dir() / "config" / "ov3d.rviz")],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    environment = [SetEnvironmentVariable(name, value) for name, value in large_message_environment().items()]
    return LaunchDescription([*arguments, *environment, OpaqueFunction(function=start_nodes), rviz])
