"""The nodes of a robot: lidar_node, map_node and, on request, cloud_filter_node and RViz.

    ros2 launch ov3d_perception lidar.launch.py points:=/velodyne_points device:=cuda vocabulary:="[car, tree, road]"

Any parameter of a node may be set as <node>.<parameter>:=value. Several robots: namespace:=robot1, or PushROSNamespace
in a launch file of your own. Without ``launch`` (pip installation) the same is ``ov3d up lidar points:=... ...``.
"""

from __future__ import annotations

from difflib import get_close_matches

import yaml
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from ov3d_perception.paths import share_dir
from ov3d_perception.ros.environment import large_message_environment
from ov3d_perception.ros.tools.systems import (
    CLOUD_FILTER,
    LIDAR,
    MAP,
    NODES,
    PLACES,
    SHORT,
    known_settings,
    parse_overrides,
)

SWITCHES = {
    "map": ("true", "start map_node"),
    "filter": ("false", "start cloud_filter_node"),
    "rviz": ("false", "start RViz with config/ov3d.rviz"),
}


def start_nodes(context: LaunchContext) -> list[Action]:
    """The nodes with their YAML and what the launch arguments change."""
    given = dict(context.launch_configurations)
    ours = {name: value for name, value in given.items() if name in (*PLACES, *SHORT) or _is_parameter(name)}
    overrides = parse_overrides(ours)
    switched_on = [spec for spec, name in ((MAP, "map"), (CLOUD_FILTER, "filter")) if yaml.safe_load(given[name])]
    nodes = [
        Node(
            package="ov3d_perception",
            executable=spec.name,
            name=spec.name,
            namespace=overrides.namespace,
            parameters=[
                *map(str, overrides.parameter_files(spec)),
                {name: yaml.safe_load(value) for name, value in overrides.parameters[spec.name].items()},
            ],
            remappings=list(overrides.remappings(spec).items()),
            output="screen",
            emulate_tty=True,
            sigterm_timeout="15",  # a node finishes the scan at work before it ends
        )
        for spec in (LIDAR, *switched_on)
    ]
    return [*_hints(set(given) - set(ours) - set(SWITCHES)), *nodes]


def _is_parameter(name: str) -> bool:
    return name.partition(".")[0] in {spec.name for spec in NODES} and "." in name


def _hints(unknown: set[str]) -> list[Action]:
    """`ros2 launch` accepts any argument without a word; one that is nearly ours is probably a slip of the pen."""
    known = [*known_settings(), *SWITCHES]
    close = {name: get_close_matches(name, known, n=1, cutoff=0.8) for name in sorted(unknown)}
    return [LogInfo(msg=f"'{name}' is no argument; did you mean '{near[0]}'?") for name, near in close.items() if near]


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    optional = {**PLACES, **{name: description for name, (_, description) in SHORT.items()}}
    arguments = [DeclareLaunchArgument(name, default_value="", description=text) for name, text in optional.items()]
    arguments += [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in SWITCHES.items()
    ]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(share_dir() / "config" / "ov3d.rviz")],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    environment = [SetEnvironmentVariable(name, value) for name, value in large_message_environment().items()]
    return LaunchDescription([*arguments, *environment, OpaqueFunction(function=start_nodes), rviz])
