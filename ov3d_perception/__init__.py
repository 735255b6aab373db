"""Open-vocabulary 3D perception: distil CLIP into a LiDAR network, run it live in ROS 2, ask it in words."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ov3d_perception.api import Labels, Perception, load
    from ov3d_perception.inference import Segmenter
    from ov3d_perception.language.vocabulary import Vocabulary
    from ov3d_perception.mapping.semantic_map import SemanticMap
    from ov3d_perception.types import Scan

# Waiting OpenMP threads sleep rather than spin: a robot's cores are shared, and two spinning processes of two threads
# on two cores slow each other down several times. It counts only before PyTorch is imported, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__all__ = ["Labels", "Perception", "Scan", "Segmenter", "SemanticMap", "Vocabulary", "load"]

_HOME = {
    "Labels": "api",
    "Perception": "api",
    "Scan": "types",
    "Segmenter": "inference",
    "SemanticMap": "mapping.semantic_map",
    "Vocabulary": "language.vocabulary",
    "load": "api",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: ``import ov3d_perception`` alone needs no PyTorch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
