"""Data sources by name; a source's module, and what it needs, is imported only when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import yaml

from ov3d_perception.datasets.source import FrameSource
from ov3d_perception.errors import DatasetError

SOURCES = {
    "semantickitti": ("ov3d_perception.datasets.semantickitti", "SemanticKitti"),
    "pandaset": ("ov3d_perception.datasets.pandaset", "PandaSet"),
    "nuscenes": ("ov3d_perception.datasets.nuscenes", "NuScenes"),
    "nuscenes_keyframe": ("ov3d_perception.datasets.nuscenes_keyframe", "NuScenesKeyframe"),
    "scannet": ("ov3d_perception.datasets.scannet", "ScanNet"),
    "simulated": ("ov3d_perception.datasets.simulated", "Simulated"),
    "bag": ("ov3d_perception.datasets.bag", "Bag"),
    "kept": ("ov3d_perception.datasets.kept", "Kept"),
    "mixed": ("ov3d_perception.datasets.mixed", "Mixed"),
}

__all__ = ["SOURCES", "FrameSource", "open_dataset", "parse_options"]


def open_dataset(name: str, root: str | Path, **options: object) -> FrameSource:
    """The data source ``name`` with its files under ``root``; the options are those of its class.

    Raises DatasetError for an unknown name or options, and for missing files (all of them listed).
    """
    if name not in SOURCES:
        raise DatasetError(f"There is no data set {name!r}", f"Use one of {', '.join(sorted(SOURCES))}")
    module, cls = SOURCES[name]
    source = getattr(import_module(module), cls)
    try:
        return source(Path(root), **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise DatasetError(f"Data set {name!r}: {error}", f"See the options of {module}.{cls}") from error


def parse_options(pairs: Sequence[str]) -> dict[str, object]:
    """Options as typed: ``name=value``, the value in YAML. Raises DatasetError where there is no '='."""
    parsed = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise DatasetError(f"The option {pair!r} has no '='", "Write name=value")
        parsed[name] = yaml.safe_load(value)
    return parsed
