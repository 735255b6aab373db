"""Plain data into a recipe, field by field, with mistakes named by their place."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args

from cattrs import Converter, transform_error
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError

from ov3d_perception.errors import RecipeError
from ov3d_perception.networks.registry import ARCHITECTURES
from ov3d_perception.recipes.method_specs import METHODS, MethodSpec, OpenSceneSpec
from ov3d_perception.recipes.specs import Recipe

_T = TypeVar("_T")
_SEE = "See the recipes in config/train"
_LEAST = dict.fromkeys(("epochs", "batch", "accumulate", "repeat", "every", "sweeps", "validate_every"), 1)
_LEAST |= {"seed": 0, "workers": 0}
_ABOVE_ZERO = {"voxel_size", "width", "downsample"}
_SHARES = {"keep", "frozen_norm"}


class _FieldError(ValueError):
    """A value that its field cannot have; the text follows the field's name."""


def from_dict(data: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data. Raises RecipeError that names each field that is unknown, missing or wrong."""
    recipe = structure(data, Recipe, _SEE)
    if recipe.network.arch not in ARCHITECTURES:
        raise RecipeError(f"recipe.network.arch {_not_one_of(recipe.network.arch, tuple(ARCHITECTURES))}", _SEE)
    return recipe


def structure(data: Mapping[str, Any], kind: type[_T], see: str) -> _T:
    """A dataclass of dataclasses from plain data; see: where to find one. Raises RecipeError as :func:`from_dict`."""
    try:
        found = _CONVERTER.structure(data, kind)
    except ClassValidationError as error:
        faults = (fault.rpartition(" @ ") for fault in transform_error(error, "recipe", format_exception=_describe))
        named = (f"{place}{what}" if what.startswith("[") else f"{place} {what}" for what, _, place in faults)
        raise RecipeError("; ".join(named), see) from error
    if wrong := list(_out_of_range(found, "recipe")):
        raise RecipeError("; ".join(wrong), see)
    return found


def _out_of_range(section: Any, place: str) -> Iterator[str]:
    """Counts below one and sizes of nothing, with their places; sections inside sections included."""
    for name in (one.name for one in fields(section)):
        value, where = getattr(section, name), f"{place}.{name}"
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        for one in inner:
            if is_dataclass(one):
                yield from _out_of_range(one, where)
        if isinstance(value, int | float):
            if name in _LEAST and not value >= _LEAST[name]:
                yield f"{where} is {value}, not {_LEAST[name]} or more"
            if name in _ABOVE_ZERO and not value > 0:
                yield f"{where} is {value}, not above 0"
            if name in _SHARES and not 0 <= value <= 1:
                yield f"{where} is {value}, not between 0 and 1"


def _describe(error: BaseException, kind: type | None) -> str:
    if isinstance(error, ForbiddenExtraKeysError):
        known = [f.name for f in fields(error.cl)]
        unknown = sorted(error.extra_fields)
        return f"has no field {unknown}. {_nearest(unknown, known)}Its fields are {sorted(known)}"
    if isinstance(error, KeyError):
        return "is missing"
    return str(error) if isinstance(error, _FieldError) else f"is not {_named(kind)} ({error})"


def _named(kind: Any) -> str:
    return (
        "a mapping" if kind is None or hasattr(kind, "__dataclass_fields__") else f"a {getattr(kind, '__name__', kind)}"
    )


def _not_one_of(value: object, known: Sequence[str]) -> str:
    return f"is {value!r}. {_nearest([value], known)}Use one of {', '.join(known)}"


def _nearest(given: Sequence[object], known: Sequence[str]) -> str:
    """A question to put before a remedy: the known names that are close to what was given; empty if none is."""
    close = [name for one in given for name in difflib.get_close_matches(str(one), known, 1)]
    return f"Did you mean {', '.join(close)}? " if close else ""


def _exactly(value: Any, kind: type) -> Any:
    """The value where it is of that very type: no text becomes a number, no number a truth value."""
    if type(value) is not kind:
        raise _FieldError(f"is {value!r}, not a {kind.__name__}")
    return value


def _number(value: Any, _: type) -> float:
    if type(value) not in (int, float):
        raise _FieldError(f"is {value!r}, not a float")
    return float(value)


def _choice(value: Any, kind: Any) -> Any:
    if value not in get_args(kind):
        raise _FieldError(_not_one_of(value, get_args(kind)))
    return value


def _tuple(value: Any, kind: Any) -> tuple[Any, ...]:
    """The elements, each of its own type; of one type where the hint ends in an ellipsis."""
    if not isinstance(value, list | tuple):
        raise _FieldError(f"is {value!r}, not a list")
    hints = get_args(kind)
    hints = hints[:1] * len(value) if hints[-1] is Ellipsis else hints
    if len(hints) != len(value):
        raise _FieldError(f"is {list(value)!r}, not {len(hints)} values")
    found = []
    for number, (one, hint) in enumerate(zip(value, hints, strict=True)):
        try:
            found.append(_CONVERTER.structure(one, hint))
        except _FieldError as error:
            raise _FieldError(f"[{number}] {error}") from error
    return tuple(found)


def _method(value: Any, _: type) -> MethodSpec:
    """The section of the method that it names; openscene's without a name."""
    if not isinstance(value, Mapping):
        raise _FieldError(f"is {value!r}, not a mapping")
    name = value.get("name", OpenSceneSpec.name)
    if name not in METHODS:
        raise _FieldError(f"name {_not_one_of(name, tuple(METHODS))}, or name the file that defines it with --module")
    return _CONVERTER.structure(value, METHODS[name])


def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _exactly)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_func(lambda kind: "Literal[" in str(kind)[:15], _choice)
    converter.register_structure_hook_func(lambda kind: getattr(kind, "__origin__", None) is tuple, _tuple)
    converter.register_structure_hook_func(lambda kind: kind is MethodSpec, _method)
    return converter


_CONVERTER = _converter()
