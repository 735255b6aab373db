"""What verifies the package's jaxtyping annotations while tests run. mypy checks all other types."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isclass
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, whose annotations that hold an array's shape or dtype are verified at each call."""
    function.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if _holds_shape(hint)}
    return beartype(function)


def _holds_shape(hint: Any) -> bool:
    return (isclass(hint) and issubclass(hint, AbstractArray)) or any(map(_holds_shape, get_args(hint)))
