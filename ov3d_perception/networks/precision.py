"""What a network in live use computes with: float32, bfloat16, or bytes between its first and its last layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ov3d_perception.errors import Ov3dError
from ov3d_perception.sparse.kernels import halves_pay, multiplies_bytes

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Those of floats; there is int8 besides."""


class Precision(NamedTuple):
    """dtype: of the features that the network is given and gives; largest: of each layer's outputs, where they are
    bytes, else nothing."""

    dtype: torch.dtype
    largest: Sequence[float] = ()

    def __str__(self) -> str:
        """As a user names it."""
        return "int8" if self.largest else next(name for name, dtype in PRECISIONS.items() if dtype == self.dtype)


def choose(name: str, device: torch.device, backend: str, largest: Sequence[float]) -> Precision:
    """The precision of a name; auto is int8 where the network is calibrated and the processor has instructions for it,
    else bf16 where that pays.

    largest: the calibrated network's largest outputs, nothing for another. Raises Ov3dError for a name that is unknown
    and for int8 where it cannot be had.
    """
    if name in PRECISIONS:
        return Precision(PRECISIONS[name])
    if name not in ("auto", "int8"):
        raise Ov3dError(f"Unknown precision '{name}'", f"Choose auto, int8, {' or '.join(PRECISIONS)}")
    lacks = _lacks(device, backend, largest)
    if name == "int8" and lacks is not None:
        raise Ov3dError(f"The network cannot run in int8: {lacks[0]}", lacks[1])
    return Precision(_fastest_floats(device), largest if lacks is None else ())


def _lacks(device: torch.device, backend: str, largest: Sequence[float]) -> tuple[str, str] | None:
    """What int8 would need, and the remedy."""
    if not largest:
        return "its checkpoint is not calibrated", "Calibrate it: `ov3d checkpoint calibrate`, or choose auto"
    if device.type != "cpu" or backend not in ("auto", "torch"):
        return f"there are no layers in bytes on {device} by {backend}", "Choose precision auto, or device cpu"
    if not multiplies_bytes():
        return "this processor has no instructions for it (AVX-512 VNNI, AVX-VNNI)", "Choose precision auto"
    return None


def _fastest_floats(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" or halves_pay() else torch.float32
