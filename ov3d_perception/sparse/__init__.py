"""Sparse 3D convolution for PyTorch, with MinkowskiEngine's semantics and weight layout; no compiler is needed."""

from ov3d_perception.sparse.convolution import multiply
from ov3d_perception.sparse.fused import convolve_normalised
from ov3d_perception.sparse.kernel_map import Stencil
from ov3d_perception.sparse.modules import BatchNorm, Conv3d, ConvTranspose3d, ReLU
from ov3d_perception.sparse.point_voxel import Points
from ov3d_perception.sparse.pooling import GlobalPool, Pool3d
from ov3d_perception.sparse.quantize import quantize
from ov3d_perception.sparse.tensor import SparseTensor, cat
from ov3d_perception.sparse.training_plan import planned_in_training

__all__ = [
    "BatchNorm",
    "Conv3d",
    "ConvTranspose3d",
    "GlobalPool",
    "Points",
    "Pool3d",
    "ReLU",
    "SparseTensor",
    "Stencil",
    "cat",
    "convolve_normalised",
    "multiply",
    "planned_in_training",
    "quantize",
]
