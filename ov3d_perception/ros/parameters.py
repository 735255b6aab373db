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
from collections.abc import Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

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
    """Declare all fields of ``schema``; refuse values outside their choices, now and later."""
    fields = dataclasses.fields(schema)
    choices = {field.name: field.metadata["choices"] for field in fields if field.metadata["choices"]}

    def check(changed: list[Parameter]) -> SetParametersResult:
        for new in changed:
            if new.name in choices and new.value not in choices[new.name]:
                reason = f"{new.name} is '{new.value}'; it must be one of: {', '.join(choices[new.name])}"
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)
    for field in fields:
        default = list(field.default) or [""] if isinstance(field.default, tuple) else field.default
        node.declare_parameter(field.name, default, descriptor(field))


def read(node: Node, schema: type[Schema]) -> Schema:
    """The node's present parameter values as an instance of ``schema``."""
    values = {}
    for field in dataclasses.fields(schema):  # type: ignore[arg-type]
        value = node.get_parameter(field.name).value
        values[field.name] = tuple(v for v in value if v) if isinstance(field.default, tuple) else value
    return schema(**values)
