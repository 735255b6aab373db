"""Which nodes make up a system, where their parameters are, and how their topics meet.

One table for both starters: the launch files (a ROS distribution) and ``ov3d up`` (pip), so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ov3d_perception.errors import Ov3dError
from ov3d_perception.paths import share_dir

POINTS = "~/input/points"


@dataclass(frozen=True)
class NodeSpec:
    """A node: ``name`` is its executable, its module in ``ov3d_perception.ros`` and its YAML in ``config/``, too."""

    name: str
    remappings: Mapping[str, str] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """For ``python -m``."""
        return f"ov3d_perception.ros.{self.name}"

    @property
    def parameter_file(self) -> Path:
        """The node's parameters."""
        return share_dir() / "config" / f"{self.name}.yaml"


LIDAR = NodeSpec("lidar_node", {POINTS: "/points"})
MAP = NodeSpec(
    "map_node",
    {"~/input/features": "/lidar_node/output/features", "~/input/basis": "/lidar_node/output/basis"},
)

CLOUD_FILTER = NodeSpec(
    "cloud_filter_node",
    {"~/input/labelled": "/lidar_node/output/points", "~/input/label_info": "/lidar_node/output/label_info"},
)
NODES = (LIDAR, MAP, CLOUD_FILTER)

#: What `ov3d up NAME` starts: the nodes of NAME.launch.py, or one node alone.
SYSTEMS: Mapping[str, tuple[NodeSpec, ...]] = {
    "lidar": (LIDAR, MAP),
    "navigation": NODES,
    **{spec.name: (spec,) for spec in NODES},
}

#: Short names, for `ov3d up` and as launch arguments: name -> (the nodes' parameters, description).
SHORT: Mapping[str, tuple[tuple[str, ...], str]] = {
    "checkpoint": (("lidar_node.checkpoint",), "network (.safetensors); empty: the one shipped"),
    "text": (("lidar_node.text", "map_node.text"), "text bank (.npz) or open_clip model; empty: the bank shipped"),
    "vocabulary": (("lidar_node.vocabulary",), "words to label with, as [car, tree]; empty: the checkpoint's classes"),
    "device": (("lidar_node.device",), "auto, cpu or cuda"),
    "use_sim_time": (tuple(f"{spec.name}.use_sim_time" for spec in NODES), "follow /clock, as with a played bag"),
    "costs": (("map_node.costs",), "what driving over things costs, as ['grass: 60', 'puddle: 100']; empty: no mask"),
    "keep": (("cloud_filter_node.keep",), "classes of the filtered cloud, as [car, person]; empty: all"),
    "drop": (("cloud_filter_node.drop",), "classes that are not in the filtered cloud, as [road, grass]"),
}
POINTS_DESCRIPTION = "topic of the LiDAR's sensor_msgs/PointCloud2"


@dataclass(frozen=True)
class Overrides:
    """What a user changed: parameters by node, and the points topic (None: as in the table)."""

    parameters: Mapping[str, Mapping[str, str]]
    points: str | None = None

    def remappings(self, spec: NodeSpec) -> dict[str, str]:
        """The node's remappings with the user's topic."""
        chosen = {POINTS: self.points} if self.points and POINTS in spec.remappings else {}
        return {**spec.remappings, **chosen}


def parse_arguments(arguments: Iterable[str]) -> dict[str, str]:
    """``name:=value`` words, as ros2 launch takes them, to a mapping. Raises Ov3dError for another form."""
    given = {}
    for argument in arguments:
        name, separator, value = argument.partition(":=")
        if not separator or not name:
            raise Ov3dError(f"'{argument}' is not of the form name:=value", "Write, for example, device:=cpu")
        given[name] = value
    return given


def parse_overrides(given: Mapping[str, str]) -> Overrides:
    """``points``, a short name, or ``<node>.<parameter>``, each with a value in YAML; empty values change nothing.

    Raises Ov3dError for any other name.
    """
    parameters: dict[str, dict[str, str]] = {spec.name: {} for spec in NODES}
    for name, value in given.items():
        if name == "points" or value == "":
            continue
        targets = SHORT[name][0] if name in SHORT else (name,)
        for target in targets:
            node, _, parameter = target.partition(".")
            if node not in parameters or not parameter:
                known = ", ".join(["points", *SHORT])
                raise Ov3dError(
                    f"'{name}' is no setting of these nodes", f"Use {known}, or <node>.<parameter> as in config/*.yaml"
                )
            parameters[node][parameter] = value
    return Overrides(parameters, given.get("points") or None)
