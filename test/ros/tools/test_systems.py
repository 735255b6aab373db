"""The table that launch files and `ov3d up` share."""

from __future__ import annotations

import importlib.util

import pytest
import yaml

from ov3d_perception.errors import Ov3dError
from ov3d_perception.paths import share_dir
from ov3d_perception.ros.environment import FORMER_VARIABLE, VARIABLE, large_message_environment
from ov3d_perception.ros.tools.systems import CLOUD_FILTER, LIDAR, MAP, SYSTEMS, parse_arguments, parse_overrides
from ov3d_perception.ros.tools.up import node_command


def test_every_node_has_its_module_and_parameters() -> None:
    for spec in {spec.name: spec for nodes in SYSTEMS.values() for spec in nodes}.values():
        assert importlib.util.find_spec(spec.module) is not None
        assert spec.parameter_file.is_file()


def test_what_nav2_is_to_listen_to_is_what_the_nodes_publish() -> None:
    """The parameters to paste, in their file and in the page that shows them."""
    shown = (share_dir() / "docs" / "navigation.md").read_text().split("```yaml\n")[1].split("```")[0]
    pasted = yaml.safe_load((share_dir() / "config" / "nav2_semantic.yaml").read_text())
    for text in (yaml.safe_load(shown), pasted):
        for name in ("global_costmap", "local_costmap"):
            costmap = text[name][name]["ros__parameters"]
            assert costmap["filters"] == ["keepout_filter"]
            assert costmap["keepout_filter"]["filter_info_topic"] == f"/{MAP.name}/output/costmap_filter_info"
        layer = costmap["obstacle_layer"]
        sources = {source: layer[source] for source in layer["observation_sources"].split()}
        assert sources["chosen"]["topic"] == f"/{CLOUD_FILTER.name}/output/points"
        assert sources["measured"]["topic"] == LIDAR.remappings["~/input/points"]
        assert {source["data_type"] for source in sources.values()} == {"PointCloud2"}
        assert [(s["marking"], s["clearing"]) for s in sources.values()] == [(True, False), (False, True)]


def test_arguments_are_read_as_ros2_launch_reads_them() -> None:
    assert parse_arguments(["points:=/velodyne", "text:=a:=b", "device:="]) == {
        "points": "/velodyne", "text": "a:=b", "device": "",
    }  # fmt: skip


@pytest.mark.parametrize("argument", ["points", "points=/velodyne", ":=x"])
def test_other_arguments_are_refused(argument: str) -> None:
    with pytest.raises(Ov3dError, match="name:=value"):
        parse_arguments([argument])


def test_short_names_reach_every_node_that_has_them() -> None:
    overrides = parse_overrides({"text": "bank.npz", "device": "", "map_node.max_age": "3.0", "points": "/velodyne"})
    assert overrides.parameters == {
        "lidar_node": {"text": "bank.npz"},
        "map_node": {"text": "bank.npz", "max_age": "3.0"},
        "cloud_filter_node": {},
    }
    assert overrides.remappings(LIDAR) == {"~/input/points": "/velodyne"}
    assert overrides.remappings(MAP)["~/input/basis"] == "/lidar_node/output/basis"
    assert overrides.remappings(CLOUD_FILTER)["~/input/labelled"] == "/lidar_node/output/points"
    assert parse_overrides({}).remappings(LIDAR) == {"~/input/points": "/points"}


@pytest.mark.parametrize("name", ["voxel_size", "other_node.voxel_size", "lidar_node."])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(Ov3dError, match="no setting"):
        parse_overrides({name: "1"})


def test_a_nodes_command_line() -> None:
    command = node_command(LIDAR, parse_overrides({"points": "/velodyne", "lidar_node.sweeps": "3"}))
    assert command[1:4] == ["-m", "ov3d_perception.ros.lidar_node", "--ros-args"]
    assert command[4:6] == ["--params-file", str(share_dir() / "config" / "lidar_node.yaml")]
    assert command[6:] == ["-r", "~/input/points:=/velodyne", "-p", "sweeps:=3"]


def test_the_middleware_gets_the_profile_unless_the_user_chose_one() -> None:
    profile = str(share_dir() / "config" / "fastdds_large_messages.xml")
    assert large_message_environment({"ROS_DISTRO": "lyrical"}) == {VARIABLE: profile}
    assert large_message_environment({"ROS_DISTRO": "humble"}) == {VARIABLE: profile, FORMER_VARIABLE: profile}
    assert large_message_environment({FORMER_VARIABLE: "mine.xml"}) == {}


@pytest.mark.parametrize("name", ["lidar", "demo", "navigation", "record"])
def test_launch_files_describe_something(name: str) -> None:
    pytest.importorskip("launch_ros", reason="launch_ros is not installed")
    spec = importlib.util.spec_from_file_location(name, share_dir() / "launch" / f"{name}.launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate_launch_description().entities
