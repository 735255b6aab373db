"""Parameters from a dataclass, on a real node; and the YAML files that list them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml
from rclpy.parameter import Parameter

from ov3d_perception.paths import share_dir
from ov3d_perception.ros.cloud_filter_node import CloudFilterParameters
from ov3d_perception.ros.lidar_parameters import LidarParameters
from ov3d_perception.ros.map.parameters import MapParameters
from ov3d_perception.ros.map.save_load import StorageParameters
from ov3d_perception.ros.navigation_parameters import NavigationParameters
from ov3d_perception.ros.parameters import declare, parameter, read


@dataclasses.dataclass(frozen=True)
class Example:
    """One of each kind."""

    rate: float = parameter(10.0, "Scans a second", minimum=1.0, maximum=20.0)
    count: int = parameter(3, "How many", minimum=1, maximum=5)
    mode: str = parameter("fast", "How", choices=("fast", "exact"))
    words: tuple[str, ...] = parameter((), "Which")
    fixed: bool = parameter(True, "At start only", read_only=True)


@pytest.fixture
def node(probe: Any) -> Iterator[Any]:
    node = rclpy.create_node("parameters_under_test")
    declare(node, Example)
    yield node
    node.destroy_node()


def test_defaults(node: Any) -> None:
    assert read(node, Example) == Example()


def test_values_are_taken(node: Any) -> None:
    new = [Parameter("rate", value=2.5), Parameter("words", value=["car", "tree"]), Parameter("mode", value="exact")]
    assert all(result.successful for result in node.set_parameters(new))
    assert read(node, Example) == Example(rate=2.5, words=("car", "tree"), mode="exact")


@pytest.mark.parametrize(
    ("name", "value"), [("rate", 20.5), ("count", 0), ("mode", "slow"), ("fixed", False), ("count", "many")]
)
def test_wrong_values_are_refused(node: Any, name: str, value: Any) -> None:
    result = node.set_parameters([Parameter(name, value=value)])[0]
    assert not result.successful and result.reason
    assert read(node, Example) == Example()


def test_descriptors_tell_all(node: Any) -> None:
    assert node.describe_parameter("rate").floating_point_range[0].to_value == 20.0
    assert node.describe_parameter("mode").additional_constraints == "one of: fast, exact"
    assert node.describe_parameter("fixed").read_only
    assert node.describe_parameter("words").description == "Which"


def test_a_range_needs_both_ends() -> None:
    with pytest.raises(ValueError, match="both ends"):
        parameter(1.0, "", minimum=0.0)


def yaml_of(node: str) -> tuple[str, dict[str, Any]]:
    path: Path = share_dir() / "config" / f"{node}.yaml"
    return path.read_text(), yaml.safe_load(path.read_text())[f"/**/{node}"]["ros__parameters"]


@pytest.mark.parametrize(
    ("name", "schemas"),
    [
        ("lidar_node", [LidarParameters]),
        ("map_node", [MapParameters, NavigationParameters, StorageParameters]),
        ("cloud_filter_node", [CloudFilterParameters]),
    ],
)
def test_the_yaml_lists_every_parameter_with_its_default_and_a_comment(name: str, schemas: list[type[Any]]) -> None:
    text, listed = yaml_of(name)
    lists = {key: tuple(word for word in value if word) for key, value in listed.items() if isinstance(value, list)}
    fields = [field for schema in schemas for field in dataclasses.fields(schema)]
    assert len({field.name for field in fields}) == len(fields)
    assert listed | lists == {field.name: field.default for field in fields}
    for key in listed:
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{key}:"))
        assert "#" in line, f"{key} has no comment"
