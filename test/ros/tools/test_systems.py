"""The table that launch files and `ov3d up` share."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ov3d_perception.errors import Ov3dError
from ov3d_perception.paths import share_dir
from ov3d_perception.ros.environment import FORMER_VARIABLE, VARIABLE, large_message_environment
from ov3d_perception.ros.tools.systems import CLOUD_FILTER, LIDAR, MAP, SYSTEMS, parse_arguments, parse_overrides
from ov3d_perception.ros.tools.up import node_command


def test_every_node_has_its_module_and_parameters() -> None:
    for spec in {spec.name: spec for nodes in SYSTEMS.values() for spec in nodes}.values():
        assert importlib.util.find_spec(f"ov3d_perception.ros.{spec.name}") is not None
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
        assert sources["measured"]["topic"] == f"/{LIDAR.remappings['~/input/points']}"
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


def test_the_imu_is_imu_data_unless_named() -> None:
    assert parse_overrides({}).remappings(LIDAR)["~/input/imu"] == "imu/data"
    assert parse_overrides({"imu": "/livox/imu"}).remappings(LIDAR)["~/input/imu"] == "/livox/imu"
    assert "~/input/imu" not in parse_overrides({"imu": "/livox/imu"}).remappings(MAP)


def test_short_names_reach_every_node_that_has_them() -> None:
    overrides = parse_overrides({"text": "bank.npz", "device": "", "map_node.max_age": "3", "points": "/velodyne"})
    assert overrides.parameters == {
        "lidar_node": {"text": "bank.npz"},
        "map_node": {"text": "bank.npz", "max_age": "3"},
        "cloud_filter_node": {},
        "learn_node": {},
    }
    assert overrides.remappings(LIDAR) == {"~/input/points": "/velodyne", "~/input/imu": "imu/data"}
    assert overrides.remappings(MAP)["~/input/basis"] == "lidar_node/output/basis"
    assert overrides.remappings(CLOUD_FILTER)["~/input/labelled"] == "lidar_node/output/points"
    assert parse_overrides({}).remappings(LIDAR) == {"~/input/points": "points", "~/input/imu": "imu/data"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("points", "velodyne-points"),
        ("points", "a b"),
        ("namespace", "2nd_robot"),
        ("tf", "/r//tf"),
        ("imu", "i" * 99 + "."),
    ],
)
def test_a_name_that_ros_does_not_allow_is_told_before_a_node_starts(name: str, value: str) -> None:
    with pytest.raises(Ov3dError, match=f"{name} is '{value}', which ROS does not allow"):
        parse_overrides({name: value})


@pytest.mark.parametrize("value", ["points", "/robot1/velodyne_points", "~/input", "{node}/points", "", "/robot/"])
def test_names_that_ros_allows(value: str) -> None:
    assert parse_overrides({"points": value, "namespace": value}).places.get("points", "") == value


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("voxel_size", "map_node.voxel_size"),
        ("lidar_node.sweps", "lidar_node.sweeps"),
        ("lidar_node.", "Use points"),
        ("other_node.deskew", "lidar_node.deskew"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(Ov3dError, match="no setting") as refused:
        parse_overrides({name: "1"})
    assert meant in str(refused.value)


@pytest.mark.parametrize(
    ("name", "written", "taken"),
    [
        ("vocabulary", "[car, tree]", ["car", "tree"]),
        ("vocabulary", "car", ["car"]),
        ("vocabulary", "car, traffic cone", ["car", "traffic cone"]),
        ("vocabulary", "[]", [""]),
        ("vocabulary", "[911, 5.5]", ["911", "5.5"]),
        ("costs", "[grass: 60, puddle: 100]", ["grass: 60", "puddle: 100"]),
        ("costs", "['grass: 60']", ["grass: 60"]),
        ("costs", "{grass: 60}", ["grass: 60"]),
        ("lidar_node.max_sweep_age", "1", 1),
        ("checkpoint", "007", "007"),
        ("checkpoint", "/a b/c: d.safetensors", "/a b/c: d.safetensors"),
        ("use_sim_time", "true", True),
    ],
)
def test_natural_spellings_are_what_they_mean(name: str, written: str, taken: Any) -> None:
    values = parse_overrides({name: written}).parameters
    key = name.rpartition(".")[2]
    found = next(own[key] for own in values.values() if key in own)
    assert yaml.safe_load(found) == taken


@pytest.mark.parametrize(
    ("name", "written", "says"),
    [
        ("sweeps", "three", "lidar_node.sweeps is 'three'; it takes a whole number from 0 to 20"),
        ("sweeps", "1.5", "a whole number"),
        ("sweeps", "21", "from 0 to 20"),
        ("deskew", "1", "one of: auto, always, never"),
        ("lidar_node.precision", "int4", "one of: auto"),
        ("map_node.max_age", "[3", "no YAML"),
        ("lidar_node.tf_timeout", "true", "a number from 0 to 2"),
    ],
)
def test_wrong_values_are_refused_before_anything_starts(name: str, written: str, says: str) -> None:
    with pytest.raises(Ov3dError, match=re.escape(says)):
        parse_overrides({name: written})


def test_a_nodes_command_line(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("")
    given = {"points": "/velodyne", "lidar_node.sweeps": "3", "namespace": "r1", "tf": "tf", "params_file": str(own)}
    command = node_command(LIDAR, parse_overrides(given))
    shipped = str(share_dir() / "config" / "lidar_node.yaml")
    assert command[1:] == [
        *("-m", "ov3d_perception.ros.start", "lidar_node", "--ros-args", "-r", "__ns:=/r1", "--params-file", shipped),
        *("--params-file", str(own), "-r", "~/input/points:=/velodyne", "-r", "~/input/imu:=imu/data"),
        *("-r", "/tf:=tf", "-p", "sweeps:=3"),
    ]


def test_a_parameter_file_that_is_not_there() -> None:
    with pytest.raises(Ov3dError, match=r"no parameter file /nowhere\.yaml"):
        node_command(LIDAR, parse_overrides({"params_file": "/nowhere.yaml"}))


def test_the_middleware_gets_the_profile_unless_the_user_chose_one() -> None:
    profile = str(share_dir() / "config" / "fastdds_large_messages.xml")
    assert large_message_environment({"ROS_DISTRO": "lyrical"}) == {VARIABLE: profile}
    assert large_message_environment({"ROS_DISTRO": "humble"}) == {VARIABLE: profile, FORMER_VARIABLE: profile}
    assert large_message_environment({FORMER_VARIABLE: "mine.xml"}) == {}


@pytest.mark.parametrize(
    ("name", "arguments", "starts"),
    [
        ("lidar", {"points", "namespace", "params_file", "vocabulary", "map", "filter", "rviz"}, "OpaqueFunction"),
        ("demo", {"bag", "rate", "rviz"}, "ExecuteProcess"),
        ("navigation", set(), "IncludeLaunchDescription"),
        ("record", {"out", "points"}, "ExecuteProcess"),
    ],
)
def test_launch_files_have_their_arguments_and_start_something(name: str, arguments: set[str], starts: str) -> None:
    launch = pytest.importorskip("launch", reason="launch is not installed")
    pytest.importorskip("launch_ros", reason="launch_ros is not installed")
    spec = importlib.util.spec_from_file_location(name, share_dir() / "launch" / f"{name}.launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entities = module.generate_launch_description().entities
    declared = {entity.name for entity in entities if isinstance(entity, launch.actions.DeclareLaunchArgument)}
    assert arguments <= declared
    assert starts in {type(entity).__name__ for entity in entities}
