"""Which nodes make up a system, where their parameters are, and how their topics meet.

One table for both starters: the launch files (a ROS distribution) and ``ov3d up`` (pip), so that they cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from ov3d_perception.errors import Ov3dError
from ov3d_perception.paths import share_dir
from ov3d_perception.ros import names
from ov3d_perception.ros.parameters import as_yaml, parameter

POINTS, IMU = "~/input/points", "~/input/imu"
_NAME = re.compile(r"~?/?([a-z_{][\w{}]*(/[a-z_{][\w{}]*)*/?)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class _EveryNode:
    """Parameters that rclpy itself gives every node."""

    use_sim_time: bool = parameter(False, "Follow /clock, as with a played bag")


@dataclass(frozen=True)
class NodeSpec:
    """A node: ``name`` is its executable, its module in ``ov3d_perception.ros`` and its YAML in ``config/``, too.

    remappings: input topic -> relative name in the robot's namespace. schemas: where its parameters are declared, as
    ``module.Class`` in ``ov3d_perception.ros``: imported when a parameter is looked up, for the nodes start sooner so.
    """

    name: str
    remappings: Mapping[str, str] = field(default_factory=dict)
    schemas: tuple[str, ...] = ()

    @property
    def parameter_file(self) -> Path:
        """The node's parameters."""
        return share_dir() / "config" / f"{self.name}.yaml"

    @property
    def parameters(self) -> dict[str, Any]:
        """Field of each parameter by name."""
        declared = (*(_schema(path) for path in self.schemas), _EveryNode)
        return {f.name: f for schema in declared for f in fields(schema)}


def _schema(path: str) -> type[Any]:
    module, _, name = path.rpartition(".")
    schema: type[Any] = getattr(import_module(f"ov3d_perception.ros.{module}"), name)
    return schema


LIDAR = NodeSpec(names.LIDAR_NODE, {POINTS: "points", IMU: "imu/data"}, ("lidar_parameters.LidarParameters",))
MAP = NodeSpec(
    names.MAP_NODE,
    {"~/input/features": names.FEATURES, "~/input/basis": names.BASIS},
    (
        "map.parameters.MapParameters",
        "navigation_parameters.NavigationParameters",
        "map.save_load.StorageParameters",
    ),
)
CLOUD_FILTER = NodeSpec(
    names.CLOUD_FILTER_NODE,
    {"~/input/labelled": names.LABELLED_POINTS, "~/input/label_info": names.LABEL_INFO},
    ("cloud_filter_node.CloudFilterParameters",),
)
LEARN = NodeSpec(names.LEARN_NODE, {"~/input/docked": "docked"}, ("learn_node.LearnParameters",))
NODES = (LIDAR, MAP, CLOUD_FILTER)
EVERY = (*NODES, LEARN)

#: What `ov3d up NAME` starts: the nodes of NAME.launch.py, or one node alone.
SYSTEMS: Mapping[str, tuple[NodeSpec, ...]] = {
    "lidar": (LIDAR, MAP),
    "navigation": NODES,
    "learn": (LEARN,),
    **{spec.name: (spec,) for spec in EVERY},
}

#: Short names, for `ov3d up` and as launch arguments: name -> (the nodes' parameters, description).
SHORT: Mapping[str, tuple[tuple[str, ...], str]] = {
    "checkpoint": (("lidar_node.checkpoint", "map_node.checkpoint"), "network (.safetensors); empty: the one shipped"),
    "text": (
        ("lidar_node.text", "map_node.text"),
        "text bank (.npz) or open_clip model; empty: the checkpoint's words",
    ),
    "vocabulary": (("lidar_node.vocabulary",), "words to label with, as [car, tree]; empty: the checkpoint's classes"),
    "device": (("lidar_node.device",), "auto, cpu or cuda"),
    "deskew": (("lidar_node.deskew",), "move each point to where it was at the scan's stamp: auto, always, never"),
    "sweeps": (("lidar_node.sweeps",), "scans that are accumulated for the network"),
    "fixed_frame": (("lidar_node.fixed_frame",), "frame that does not move with the robot; empty: odom"),
    "map_frame": (("map_node.map_frame",), "frame of the map; empty: map. A robot without one: odom"),
    "map_file": (("map_node.map_file",), "map file (.ov3dmap) that is loaded at start, and saved to"),
    "use_sim_time": (tuple(f"{spec.name}.use_sim_time" for spec in NODES), "follow /clock, as with a played bag"),
    "costs": (("map_node.costs",), "what driving over things costs, as [grass: 60, sidewalk: 100]; empty: no mask"),
    "keep": (("cloud_filter_node.keep",), "classes of the filtered cloud, as [car, person]; empty: all"),
    "site": (("learn_node.site",), "the folder of the site that learn_node learns"),
    "bags": (("learn_node.bags",), "a bag, or a folder of bags, of which learn_node learns the newest"),
    "drop": (("cloud_filter_node.drop",), "classes that are not in the filtered cloud, as [road, grass]"),
}

#: Arguments that are no parameters: name -> description. Empty leaves things as they are.
PLACES: Mapping[str, str] = {
    "points": "topic of the LiDAR's sensor_msgs/PointCloud2; empty: points, in the robot's namespace",
    "imu": "topic of the IMU that tells what is up where TF does not; empty: imu/data, in the robot's namespace",
    "namespace": "namespace of the robot: nodes, topics and services go below it",
    "tf": "topic of the transforms, where it is not /tf, such as /robot1/tf",
    "tf_static": "topic of the static transforms, where it is not /tf_static",
    "params_file": "YAML file of parameters that are loaded after ours",
}


@dataclass(frozen=True)
class Overrides:
    """What a user changed: parameters by node (values in YAML), and where the robot's topics are (see PLACES)."""

    parameters: Mapping[str, Mapping[str, str]]
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """Absolute; "" for none."""
        name = self.places.get("namespace") or names.robot()
        return f"/{name.strip('/')}" if name.strip("/") else ""

    def remappings(self, spec: NodeSpec) -> dict[str, str]:
        """The node's remappings with the user's topics."""
        changed = dict(spec.remappings)
        for topic, name in ((POINTS, "points"), (IMU, "imu")):
            if topic in changed and (given := self.places.get(name)):
                changed[topic] = given
        return changed | {f"/{tf}": self.places[tf] for tf in ("tf", "tf_static") if self.places.get(tf)}

    def parameter_files(self, spec: NodeSpec) -> list[Path]:
        """Ours, then the user's. Raises Ov3dError where the user's is not there."""
        files = [spec.parameter_file]
        if given := self.places.get("params_file"):
            files.append(Path(given).expanduser())
            if not files[-1].is_file():
                raise Ov3dError(f"There is no parameter file {given}", "Correct params_file")
        return files


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
    """A name of PLACES or SHORT, or ``<node>.<parameter>``, each with a value in YAML; empty values change nothing.

    Raises Ov3dError for another name, with the nearest known one, and for a value that the parameter does not take.
    """
    parameters: dict[str, dict[str, str]] = {spec.name: {} for spec in EVERY}
    specs = {spec.name: spec for spec in EVERY}
    for name, value in given.items():
        if name in PLACES and name != "params_file" and not _NAME.fullmatch(value):
            remedy = "Use letters, digits (not first) and underscores, with / between the parts"
            raise Ov3dError(f"{name} is '{value}', which ROS does not allow as a name", remedy)
        if name in PLACES or value == "":
            continue
        for target in SHORT[name][0] if name in SHORT else (name,):
            node, _, key = target.partition(".")
            declared = specs[node].parameters if node in specs else {}
            if key not in declared:
                raise Ov3dError(f"'{name}' is no setting of these nodes", _nearest(name))
            parameters[node][key] = as_yaml(declared[key], value, f"{node}.{key}")
    return Overrides(parameters, {name: given[name] for name in PLACES if given.get(name)})


def known_settings() -> list[str]:
    """Every name that :func:`parse_overrides` takes."""
    return [*PLACES, *SHORT, *(f"{spec.name}.{key}" for spec in EVERY for key in spec.parameters)]


def _nearest(name: str) -> str:
    close = get_close_matches(name, known_settings(), n=3, cutoff=0.5)
    short = ", ".join([*PLACES, *SHORT])
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"{meant}Use {short}, or <node>.<parameter> as in config/*.yaml"
