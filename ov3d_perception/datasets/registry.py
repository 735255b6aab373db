"""Data sources by name; a source's module, and what it needs, is imported only when it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from ov3d_perception.datasets.source import FrameSource
from ov3d_perception.errors import DatasetError

SOURCES = {
    "semantickitti": ("ov3d_perception.datasets.semantickitti", "SemanticKitti"),
    "pandaset": ("ov3d_perception.datasets.pandaset", "PandaSet"),
    "nuscenes": ("ov3d_perception.datasets.nuscenes", "NuScenes"),
    "nuscenes_keyframe": ("ov3d_perception.datasets.nuscenes_keyframe", "NuScenesKeyframe"),
    "scannet": ("ov3d_perception.datasets.scannet", "ScanNet"),
    "seven_scenes": ("ov3d_perception.datasets.seven_scenes", "SevenScenes"),
    "simulated": ("ov3d_perception.datasets.simulated", "Simulated"),
    "bag": ("ov3d_perception.datasets.bag", "Bag"),
    "kept": ("ov3d_perception.datasets.kept", "Kept"),
    "mixed": ("ov3d_perception.datasets.mixed", "Mixed"),
}

_COUNTS = ("sweeps", "every", "stride")
"""Options of several sources that count from 1."""

__all__ = ["SOURCES", "FrameSource", "open_dataset", "parse_options"]


def open_dataset(name: str, root: str | Path, **options: object) -> FrameSource:
    """The data source ``name`` with its files under ``root``; the options are those of its class.

    Raises DatasetError for an unknown name, for options that are unknown, of another type or out of range, and for
    missing files (all of them listed).
    """
    if name not in SOURCES:
        raise DatasetError(f"There is no data set {name!r}", f"Use one of {', '.join(sorted(SOURCES))}")
    module, cls = SOURCES[name]
    source = getattr(import_module(module), cls)
    hints, written = get_type_hints(source.__init__), source.__init__.__annotations__
    for option, value in options.items():
        if option in hints and not _fits(value, hints[option]):
            raise DatasetError(
                f"Data set {name!r}: {option} is {value!r}, not {written[option]}",
                f"See the options of {module}.{cls}. YAML reads 001 and 1e-3 as no name and no number: '001', 1.0e-3",
            )
        if option in _COUNTS and isinstance(value, int) and value < 1:
            raise DatasetError(f"Data set {name!r}: {option} is {value}", "Give a number from 1 up")
    try:
        return source(Path(root), **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise DatasetError(f"Data set {name!r}: {error}", f"See the options of {module}.{cls}") from error


def parse_options(pairs: Sequence[str]) -> dict[str, object]:
    """Options as typed: ``name=value``, the value in YAML. Raises DatasetError where it is not that."""
    parsed = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise DatasetError(f"The option {pair!r} has no '='", "Write name=value")
        try:
            parsed[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise DatasetError(f"The option {pair!r} is no YAML ({error})", "Close brackets and quotes") from error
    return parsed


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type as the sources' options have them; of numbers as YAML writes them."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if kind is Literal:
        return value in inner
    if kind is tuple:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if kind is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(one, inner[0]) for one in value)
    if hint is bool:
        return isinstance(value, int) and value in (0, 1)
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return hint is Any or kind is Mapping or isinstance(value, hint)  # a source knows better what is in a mapping
