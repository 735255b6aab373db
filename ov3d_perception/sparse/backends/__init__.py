"""Convolution backends behind one interface, chosen by name, with the same modules, weights and results.

``torch`` is ours and always there. ``minkowski`` is MinkowskiEngine (https://github.com/NVIDIA/MinkowskiEngine), the
oracle of the tests. ``spconv`` is spconv or spconv-triton on a CUDA device. A backend is a
:class:`~ov3d_perception.sparse.coordinates.CoordinateManager`; its library is imported when it is first asked for.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

import torch
from jaxtyping import Int64
from torch import Tensor

from ov3d_perception.errors import BackendError
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.types import BACKENDS

_MANAGERS = {
    "torch": "ov3d_perception.sparse.coordinates:CoordinateManager",
    "minkowski": "ov3d_perception.sparse.backends.minkowski:MinkowskiManager",
    "spconv": "ov3d_perception.sparse.backends.spconv:SpconvManager",
}


def make_manager(backend: str, coords: Int64[Tensor, "n 4"], stride: int = 1) -> CoordinateManager:
    """The coordinate manager of a backend: one of :data:`BACKENDS`, or ``auto`` (see :func:`choose`).

    Raises BackendError for an unknown name, a library that is not installed, or a device that it cannot serve.
    """
    name = choose(coords.device.type) if backend == "auto" else backend
    if name not in _MANAGERS:
        raise BackendError(f"Unknown sparse backend '{backend}'", f"Choose auto, {', '.join(BACKENDS)}")
    module, _, attribute = _MANAGERS[name].partition(":")
    manager: CoordinateManager = getattr(import_module(module), attribute)(coords, stride)
    return manager


def check(backend: str, device: torch.device) -> None:
    """Raises the BackendError that :func:`make_manager` would raise for voxels on this device."""
    make_manager(backend, torch.zeros(1, 4, dtype=torch.int64, device=device))


@cache
def choose(device: str) -> str:
    """What ``auto`` means on a type of device: spconv on CUDA where it is installed, ours elsewhere."""
    if device != "cuda":
        return "torch"
    try:
        import_module("ov3d_perception.sparse.backends.spconv").load_library()
    except BackendError:
        return "torch"
    return "spconv"
