"""A network ready for live use."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch

from ov3d_perception.networks.folding import fold_batch_norm
from ov3d_perception.networks.registry import Network
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.plan import Plan
from ov3d_perception.sparse.recording import UntraceableError


class LiveNetwork:
    """A copy of a network for inference: normalisation folded, on a device, in a type.

    largest: of each layer's outputs, where a plan is to compute them in bytes.

    On a CPU, networks that only convolve and join (MinkUNet) are run as a :class:`~ov3d_perception.sparse.plan.Plan`.
    """

    def __init__(
        self, network: Network, device: torch.device, dtype: torch.dtype, largest: Sequence[float] = ()
    ) -> None:
        self._network = fold_batch_norm(network).to(device)
        self.plan: Plan | None = None
        if not largest:  # bytes are made of float32
            self._network.to(dtype)
        if device.type == "cpu":
            with suppress(UntraceableError):
                self.plan = Plan.of(self._network, network.in_channels, dtype, largest)
        self._network.to(dtype)

    @torch.inference_mode()
    def __call__(self, x: SparseTensor) -> SparseTensor:
        """(N, in_channels) -> point features (N, feature_dim) on the same voxels, both of the network's type."""
        if self.plan is None or type(x.manager) is not CoordinateManager or len(x) == 0:
            result: SparseTensor = self._network(x)
            return result
        return self.plan(x)
