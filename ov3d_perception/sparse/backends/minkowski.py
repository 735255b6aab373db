"""The ``minkowski`` backend: MinkowskiEngine 0.5.4 keeps the coordinates and convolves.

It is the oracle of the tests. Voxels are in the order of its own maps, so that no row is permuted.
"""

from __future__ import annotations

import collections
import collections.abc
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ov3d_perception.errors import BackendError
from ov3d_perception.sparse.coordinates import CoordinateManager, VoxelSet
from ov3d_perception.sparse.epilogue import Epilogue, apply_epilogue
from ov3d_perception.sparse.kernel_map import Stencil

INSTALL = "sh scripts/build_minkowski.sh"


def load_library() -> Any:
    """The module ``MinkowskiEngine``. Raises BackendError if it is not installed or does not load."""
    # Version 0.5.4 looks for this class where Python 3.9 had it.
    collections.Sequence = collections.abc.Sequence  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it was compiled for the CPU
            return import_module("MinkowskiEngine")
    except ImportError as error:
        raise BackendError(
            f"The sparse backend minkowski needs MinkowskiEngine, which does not load ({error})",
            f"Build it with `{INSTALL}`, or choose the backend torch",
        ) from error


class MinkowskiManager(CoordinateManager):
    """Voxels and convolutions of MinkowskiEngine, on the CPU.

    It multiplies in float32, or float64 for such features. Other types are converted before and after, so a network
    runs in any precision, but no faster.
    """

    def __init__(self, coords: Int64[Tensor, "n 4"], stride: int = 1) -> None:
        self._library = load_library()
        if coords.device.type != "cpu":
            raise BackendError(
                f"The sparse backend minkowski works on the CPU, and the voxels are on {coords.device}",
                "Choose the device cpu, or another backend: torch, spconv",
            )
        super().__init__(coords, stride)
        self._engine = self._library.CoordinateManager(D=3)
        key, _ = self._engine.insert_and_map(coords.int().contiguous(), stride)
        self._keys = {stride: key}

    def convolve(
        self,
        feats: Float[Tensor, "n i"],
        kernel: Float[Tensor, "k i o"],
        stencil: Stencil,
        epilogue: Epilogue | None = None,
        transposed: bool = False,
    ) -> Float[Tensor, "m o"]:
        """See :meth:`CoordinateManager.convolve`."""
        fine, coarse, _, _ = stencil
        if transposed:
            self.voxels(fine)
            feats = self._apply("MinkowskiConvolutionTransposeFunction", feats, kernel, stencil, coarse, fine)
        else:
            self._stride(fine, coarse)
            feats = self._apply("MinkowskiConvolutionFunction", feats, kernel, stencil, fine, coarse)
        return apply_epilogue(feats, epilogue)

    def expect(self, stencils: Sequence[Stencil], feats: Tensor) -> None:
        """Nothing: the library makes its maps when it needs them."""

    def _apply(
        self, function: str, feats: Tensor, kernel: Tensor, stencil: Stencil, in_stride: int, out_stride: int
    ) -> Tensor:
        """Runs an autograd function of the library from one stride to another."""
        device = feats.device.type
        result = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else feats.dtype
        if len(feats) == 0:  # which it cannot convolve
            return (feats @ kernel[0].to(feats.dtype)).to(result)
        dtype = torch.float64 if feats.dtype == torch.float64 else torch.float32
        mode = import_module("MinkowskiEngineBackend._C").ConvolutionMode.DEFAULT
        keys = self._keys[in_stride], self._keys[out_stride]
        factor = stencil.coarse // stencil.fine
        generator = self._library.KernelGenerator(stencil.kernel_size, factor, stencil.dilation, dimension=3)
        run = getattr(self._library, function).apply
        return run(feats.to(dtype), kernel.to(dtype).contiguous(), generator, mode, *keys, self._engine).to(result)

    def _stride(self, in_stride: int, out_stride: int) -> None:
        """Lets the library make the voxels at ``out_stride``, unless they are there."""
        if out_stride not in self._keys:
            self.voxels(in_stride)
            key = self._keys[out_stride] = self._engine.stride(self._keys[in_stride], out_stride // in_stride)
            self._sets[out_stride] = VoxelSet.from_coords(self._engine.get_coordinates(key).long())

    def _downsample(self, in_stride: int, out_stride: int) -> Tensor:
        """For kernel maps, those of pooling: from and to the library's voxels."""
        self._stride(in_stride, out_stride)
        return super()._downsample(in_stride, out_stride)
