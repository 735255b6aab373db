"""The shipped weights, by name: the one place that knows what lies in ``models/``."""

from __future__ import annotations

from pathlib import Path

from ov3d_perception.paths import share_dir

CHECKPOINT = "street_minkunet.safetensors"
"""A LiDAR network, distilled on simulated streets."""

BANK = "street_bank.npz"
"""Words in the space of :data:`CHECKPOINT`."""


def shipped_checkpoint() -> Path:
    """The network that is used where none is named."""
    return share_dir() / "models" / CHECKPOINT


def shipped_bank() -> Path:
    """The text bank that is used where none is named."""
    return share_dir() / "models" / BANK
