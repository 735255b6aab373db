"""The basis of a network's point features: the weights of its linear head, and their hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32

from ov3d_perception.types import EncoderIdentity


def basis_hash(weights: Float32[np.ndarray, "c d"]) -> str:
    """SHA-256 of W as row-major little-endian float32: ``basis_id`` of messages, ``network`` of map files."""
    return hashlib.sha256(np.ascontiguousarray(weights, "<f4").tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Basis:
    """W of a network's linear head: ``z @ weights`` lies in the encoder's space, for point features z of C channels.

    identity: the encoder; logit_scale: its factor from cosines to logits.
    """

    weights: Float32[np.ndarray, "c d"]
    identity: EncoderIdentity
    logit_scale: float = 100.0

    @cached_property
    def basis_id(self) -> str:
        """:func:`basis_hash` of the weights."""
        return basis_hash(self.weights)
