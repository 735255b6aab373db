"""The ``spconv`` backend, for CUDA: spconv-triton (https://github.com/L-Reichardt/spconv-triton) or spconv 2.3
(https://github.com/traveller59/spconv), which share one interface.

They find the row pairs and multiply, for the three kinds of convolution that the networks need: odd kernels on the same
voxels, even kernels as large as their stride, and the transposed convolutions of these. Other kinds run in the
``torch`` backend, on the same voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from ov3d_perception.errors import BackendError
from ov3d_perception.sparse.coordinates import CoordinateManager, VoxelSet
from ov3d_perception.sparse.epilogue import Epilogue, apply_epilogue
from ov3d_perception.sparse.kernel_map import Stencil

LIBRARIES = ("spconv_triton", "spconv")
"""By preference: the first is maintained, and multiplies bfloat16."""
_REMEDY = "Install it with `pip install spconv-triton`, or choose the backend torch"
_ALIGN = 48
"""The grid's origin and size are multiples of it, and so of every stride that divides it."""
_IMPLICIT_GEMM_VOLUME = 32
"""Largest kernel volume for which the libraries recommend their fused multiplication."""


def load_library() -> Any:
    """The module ``spconv_triton.pytorch`` or ``spconv.pytorch``. Raises BackendError where none supports CUDA."""
    failures = []
    for name in LIBRARIES:
        try:
            library = import_module(f"{name}.pytorch")
        except ImportError as error:
            failures.append(f"{name}: {error}")
            continue
        if not library.ops.CPU_ONLY_BUILD:
            return library
        failures.append(f"{name}: built without CUDA")
    raise BackendError(f"The sparse backend spconv has no usable library ({'; '.join(failures)})", _REMEDY)


def spconv_weight(kernel: Float[Tensor, "k i o"], kernel_size: int) -> Float[Tensor, "o x y z i"]:
    """Our kernel (x fastest) as spconv keeps it for indices ``[batch, x, y, z]``."""
    cube = kernel.reshape(kernel_size, kernel_size, kernel_size, kernel.shape[1], kernel.shape[2])
    return cube.permute(4, 2, 1, 0, 3).contiguous()


@dataclass(frozen=True)
class _Grid:
    """Voxels as spconv counts them: from zero, in steps of their stride."""

    indices: Int32[Tensor, "n 4"]
    batch_size: int
    shape: list[int]


class _Pairs:
    """Row pairs of one convolution, and the function that multiplies them. ``indices``: the output voxels."""

    def __init__(self, library: Any, grid: _Grid, kernel_size: int, dilation: int, same: bool, training: bool) -> None:
        self._functional, self._same = library.functional, same
        ops, kinds = library.ops, library.ConvAlgo
        self._fused = kernel_size**3 <= _IMPLICIT_GEMM_VOLUME and not ops.CPU_ONLY_BUILD
        self._kind = kinds.MaskImplicitGemm if self._fused else kinds.Native
        find = ops.get_indice_pairs_implicit_gemm if self._fused else ops.get_indice_pairs
        options = {"is_train": training} if self._fused else {}
        size, stride = [kernel_size] * 3, [1 if same else kernel_size] * 3
        place = (grid.indices, grid.batch_size, grid.shape, self._kind)
        self.indices, *self._tables = find(*place, size, stride, [0] * 3, [dilation] * 3, [0] * 3, same, **options)

    def multiply(self, feats: Tensor, weight: Tensor, rows: int, inverse: bool = False) -> Tensor:
        """To ``rows`` output voxels; ``inverse``: from the output voxels back to the input's."""
        run = self._functional
        if not self._fused:
            pairs, counts = self._tables
            call = run.indice_subm_conv if self._same else run.indice_inverse_conv if inverse else run.indice_conv
            return call(feats, weight, pairs, counts, rows, self._kind)
        *both_ways, masks = self._tables[1:]  # tables, masks and sorted rows, each forwards and backwards
        if inverse:
            both_ways = [both_ways[i] for i in (1, 0, 3, 2, 5, 4)]
        return run.implicit_gemm(feats, weight, *both_ways, rows, masks, torch.is_grad_enabled(), self._same)


class SpconvManager(CoordinateManager):
    """Voxels and convolutions of spconv. Rows of the voxels given stay, coarser ones lie as the library makes them.

    spconv multiplies float16 and float32, spconv-triton also bfloat16, which becomes float32 and back for the former.
    """

    def __init__(self, coords: Int64[Tensor, "n 4"], stride: int = 1) -> None:
        self._library = self._require(coords.device)
        super().__init__(coords, stride)
        low, high = (coords.amin(0).tolist(), coords.amax(0).tolist()) if len(coords) else ([0] * 4, [0] * 4)
        self._origin = [c // _ALIGN * _ALIGN for c in low[1:]]
        self._size = [(c // _ALIGN + 1) * _ALIGN - o for c, o in zip(high[1:], self._origin, strict=True)]
        self._batch_size = high[0] + 1
        self._row_pairs: dict[tuple[Stencil, bool], _Pairs] = {}

    def _require(self, device: torch.device) -> Any:
        """The library. Raises BackendError if none is installed, or none serves this device."""
        if device.type != "cuda":
            raise BackendError(
                f"The sparse backend spconv works on CUDA devices only, and the voxels are on {device}; on a CPU with "
                "several threads spconv's sums race, and its results are wrong",
                "Choose the device cuda, or the backend torch",
            )
        return load_library()

    def convolve(
        self,
        feats: Float[Tensor, "n i"],
        kernel: Float[Tensor, "k i o"],
        stencil: Stencil,
        epilogue: Epilogue | None = None,
        transposed: bool = False,
    ) -> Float[Tensor, "m o"]:
        """See :meth:`CoordinateManager.convolve`."""
        if transposed:
            pairs = self._row_pairs.get((stencil, True)) if stencil.fine != stencil.coarse else None
        else:
            pairs = self._find(stencil)
        if pairs is None or feats.dtype == torch.float64:
            return super().convolve(feats, kernel, stencil, epilogue, transposed)
        rows = len(self.voxels(stencil.fine if transposed else stencil.coarse))
        return apply_epilogue(self._multiply(pairs, feats, kernel, stencil.kernel_size, rows, transposed), epilogue)

    def _find(self, stencil: Stencil) -> _Pairs | None:
        """Cached pairs; None for a convolution that spconv lacks, or whose voxels another backend has ordered."""
        fine, coarse, size, dilation = stencil
        same = fine == coarse
        training = torch.is_grad_enabled() or not same  # the way back needs what training needs
        key = stencil, training
        if key not in self._row_pairs:
            known = bool(size % 2) if same else stencil.partition and coarse not in self._sets
            if not known or _ALIGN % coarse or len(self.voxels(fine)) == 0:
                return None
            self._row_pairs[key] = _Pairs(self._library, self._grid(fine), size, dilation, same, training)
            if not same:
                coords = self._row_pairs[key].indices.long()
                coords[:, 1:] = coords[:, 1:] * coarse + coords.new_tensor(self._origin)
                self._sets[coarse] = VoxelSet.from_coords(coords)
        return self._row_pairs[key]

    def _grid(self, stride: int) -> _Grid:
        """The voxels at ``stride``, in their rows."""
        indices = self.voxels(stride).coords.clone()
        indices[:, 1:] = (indices[:, 1:] - indices.new_tensor(self._origin)) // stride
        return _Grid(indices.int(), self._batch_size, [size // stride for size in self._size])

    def _multiply(
        self, pairs: _Pairs, feats: Tensor, kernel: Tensor, kernel_size: int, rows: int, inverse: bool = False
    ) -> Tensor:
        """In the type of the features, or of autocast (which the library would make float16)."""
        device = feats.device.type
        result = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else feats.dtype
        known = result != torch.bfloat16 or self._library.__name__.startswith("spconv_triton")
        dtype = result if known else torch.float32
        with torch.autocast(device, enabled=False):
            weight = spconv_weight(kernel.to(dtype), kernel_size)
            return pairs.multiply(feats.to(dtype).contiguous(), weight, rows, inverse).to(result)
