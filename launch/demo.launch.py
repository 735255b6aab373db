"""Play a bag into the nodes, in a loop, and look at it in RViz. `make demo` or `ov3d demo` makes a bag to play.

``ros2 launch ov3d_perception demo.launch.py bag:=out/demo/drive``
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

from ov3d_perception.paths import share_dir


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch. Arguments of lidar.launch.py work here, too."""
    bag, rate = LaunchConfiguration("bag"), LaunchConfiguration("rate")
    nodes = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share_dir() / "launch" / "lidar.launch.py")),
        launch_arguments={"use_sim_time": "true", "rviz": LaunchConfiguration("rviz")}.items(),
    )
    ov3d = ExecutableInPackage(executable="ov3d", package="ov3d_perception")
    player = ExecuteProcess(
        cmd=[ov3d, "bag", "play", bag, "--loop", "--rate", rate],
        output="screen",
        sigterm_timeout="15",  # it closes before launch insists, also on a busy machine
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="bag folder with /points, /tf and /tf_static"),
            DeclareLaunchArgument("rate", default_value="1.0", description="1.0 is real time"),
            DeclareLaunchArgument("rviz", default_value="true", description="start RViz with config/ov3d.rviz"),
            nodes,
            player,
        ]
    )
