"""ROS parameters from a dataclass: each field carries its description, range and choices, and becomes a parameter.

A node writes its parameters down once::

    @dataclass(frozen=True)
    class MyParameters:
        rate: float = parameter(10.0, "Scans a second", minimum=0.1, maximum=100.0)

    declare(node, MyParameters)
    rate = read(node, MyParameters).rate

Types are bool, int, float, str and tuple[str, ...] (a string array; ROS has no empty arrays in YAML, so an array of
one empty string stands for an empty one and is read as ``()``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from ov3d_perception.errors import Ov3dError

Schema = TypeVar("Schema")


def parameter(
    default: bool | int | float | str | tuple[str, ...],
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    read_only: bool = False,
) -> Any:
    """A dataclass field that is a ROS parameter. ``read_only``: set by file or command line only, at start."""
    if (minimum is None) != (maximum is None):
        raise ValueError("a ROS range needs both ends")
    metadata = {
        "description": description,
        "range": None if minimum is None else (minimum, maximum),
        "choices": tuple(choices),
        "read_only": read_only,
    }
    return dataclasses.field(default=default, metadata=metadata)


def descriptor(field: dataclasses.Field[Any]) -> ParameterDescriptor:
    """What ``ros2 param describe`` shows of a field."""
    choices = field.metadata["choices"]
    message = ParameterDescriptor(
        name=field.name,
        description=field.metadata["description"],
        additional_constraints=f"one of: {', '.join(choices)}" if choices else "",
        read_only=field.metadata["read_only"],
    )
    if field.metadata["range"] is not None:
        low, high = field.metadata["range"]
        if isinstance(field.default, int):
            message.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
        else:
            message.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    return message


def declare(node: Node, schema: type[Any]) -> None:
    """Declare all fields of ``schema``; refuse values outside their choices, now and later.

    A whole number is taken for a float. Raises Ov3dError where a value given at start is of another type, outside its
    range or not among its choices.
    """
    fields = dataclasses.fields(schema)

    def check(changed: list[Parameter]) -> SetParametersResult:
        known = {field.name: field for field in fields if field.metadata["choices"]}
        for new in changed:
            if new.name in known and (reason := refusal(known[new.name], new.value, new.name)):
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)
    overrides = node._parameter_overrides  # rclpy has no public way to read a value before it is declared
    for field in fields:
        if field.name in overrides:
            value = overrides[field.name].value
            if reason := refusal(field, value, field.name):
                raise Ov3dError(reason, "Correct it in the parameter file or on the command line")
            if isinstance(field.default, float):
                overrides[field.name] = Parameter(field.name, Parameter.Type.DOUBLE, float(value))
        default = list(field.default) or [""] if isinstance(field.default, tuple) else field.default
        node.declare_parameter(field.name, default, descriptor(field))


def undeclared(node: Node) -> dict[str, list[str]]:
    """Parameters that were given at start and that the node does not have, with the nearest names it has."""
    given = (name for name in node._parameter_overrides if "." not in name and name not in _OF_EVERY_NODE)
    return {name: get_close_matches(name, node._parameters, n=2) for name in given if not node.has_parameter(name)}


_OF_EVERY_NODE = ("use_sim_time", "start_type_description_service", "autostart_node")


def wanted(field: dataclasses.Field[Any]) -> str:
    """What a parameter takes, in words: "a number from 0 to 20"."""
    if field.metadata["choices"]:
        return f"one of: {', '.join(field.metadata['choices'])}"
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list of words"}
    kind = kinds[type(field.default)]
    if field.metadata["range"] is None:
        return kind
    low, high = field.metadata["range"]
    return f"{kind} from {low:g} to {high:g}"


def refusal(field: dataclasses.Field[Any], value: Any, name: str) -> str:
    """Why the parameter does not take this value, or ""."""
    default = field.default
    if isinstance(default, tuple):
        fits = isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, str) for v in value)
    elif isinstance(default, float):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = type(value) is type(default)
    if fits and field.metadata["choices"]:
        fits = value in field.metadata["choices"]
    if fits and field.metadata["range"] is not None:
        fits = field.metadata["range"][0] <= value <= field.metadata["range"][1]
    return "" if fits else f"{name} is {value!r}; it takes {wanted(field)}"


def as_yaml(field: dataclasses.Field[Any], text: str, name: str) -> str:
    """A value as people write it on a command line, as the YAML that the parameter takes.

    Lists may be written ``[car, tree]``, ``car,tree`` or ``car``, and ``[grass: 60]`` for a word with a number.
    Raises Ov3dError that names the parameter, the value and what it takes.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        if not isinstance(field.default, str):
            raise Ov3dError(f"{name} is {text!r}, which is no YAML ({error})", f"It takes {wanted(field)}") from error
        value = text
    if isinstance(field.default, str):
        value = text if not isinstance(value, str) else value
    elif isinstance(field.default, tuple):
        value = _words(value) or [""]
    if reason := refusal(field, value, name):
        raise Ov3dError(reason, "Correct it")
    written: str = yaml.safe_dump(value, default_flow_style=True, default_style=None, allow_unicode=True, width=10**6)
    return written.removesuffix("\n").removesuffix("...").strip()


def _words(value: Any) -> list[str]:
    """Any spelling of a list of words: ``car``, ``car, tree``, ``[car, 5]``, ``{grass: 60}``, ``[grass: 60]``."""
    if isinstance(value, Mapping):
        return [f"{key}: {item}" for key, item in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [word for item in value for word in (_words(item) if isinstance(item, Mapping) else [str(item)])]
    return [] if value is None else [word.strip() for word in str(value).split(",") if word.strip()]


def read(node: Node, schema: type[Schema]) -> Schema:
    """The node's present parameter values as an instance of ``schema``."""
    values = {}
    for field in dataclasses.fields(schema):  # type: ignore[arg-type]
        value = node.get_parameter(field.name).value
        values[field.name] = tuple(v for v in value if v) if isinstance(field.default, tuple) else value
    return schema(**values)
