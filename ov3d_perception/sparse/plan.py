"""A network in inference as a list of layers that compiled code runs through: no Python and no PyTorch between them.

The list is recorded (:mod:`~ov3d_perception.sparse.recording`). On a scan, all kernel maps are made, every layer's
addresses are put into a table, and the table is run (:mod:`~ov3d_perception.sparse.steps`). A tensor's memory is used
again when the last layer that reads it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from ov3d_perception.sparse import kernels
from ov3d_perception.sparse.buffers import Buffer, Memory, allocate, place, shared_slots
from ov3d_perception.sparse.convolution import pairs_in_a_block
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.fused import affine
from ov3d_perception.sparse.kernel_map import KernelMap
from ov3d_perception.sparse.layer_code import Step, layer, packed, step_of
from ov3d_perception.sparse.recording import Recorded, UntraceableError, record
from ov3d_perception.sparse.runtime import arena
from ov3d_perception.sparse.runtime.memory import as_resource_error, require
from ov3d_perception.sparse.runtime.workers import run_in_background
from ov3d_perception.sparse.steps import run_steps
from ov3d_perception.sparse.tensor import SparseTensor


class Layer(NamedTuple):
    """A recorded layer with its weights as they are read: norm folded, kernel and the shortcut's matrix packed."""

    recorded: Recorded
    kernel: Tensor
    bias: Float32[Tensor, " o"]
    matrix: Tensor | None
    function: int

    @classmethod
    def of(cls, made: Recorded, dtype: torch.dtype) -> Layer:
        """For features of this type. Raises UntraceableError if there is no code for it."""
        conv = made.conv
        if not kernels.fits(torch.zeros(0, dtype=dtype), conv.out_channels) or conv.kernel.dtype != dtype:
            raise UntraceableError(f"no compiled layer for {conv}")
        scale, shift, matrix = affine(conv, made.norm, made.projection)
        kernel = conv.kernel if scale is None else (conv.kernel * scale).to(dtype)
        bias = torch.zeros(conv.out_channels) if shift is None else shift.float().clone()
        kind = "none" if made.shortcut is None else "same" if matrix is None else "projected"
        function = layer(conv.out_channels, dtype, kind, relu=True)
        return cls(made, packed(kernel), bias, None if matrix is None else packed(matrix[None]), function)


@dataclass
class Plan:
    """The layers of a network in inference. ``plan(x)`` is ``network(x)``.

    slots: which memory each buffer has; buffers of one stride that are not needed at the same time share theirs.
    """

    source: Buffer
    layers: list[Layer]
    target: Buffer
    dtype: torch.dtype
    slots: dict[Buffer, int] = field(init=False)

    @classmethod
    def of(cls, network: nn.Module, channels: int, dtype: torch.dtype) -> Plan:
        """Record a network in evaluation mode, whose weights are of this type. Later changes of them have no effect.

        Raises UntraceableError for a network that does other things than convolve, normalise and join.
        """
        even = channels if dtype == torch.float32 else channels + channels % 2
        source, layers, target = record(network, even, dtype)
        with torch.no_grad():
            return cls(source, [Layer.of(made, dtype) for made in layers], target, dtype)

    def __post_init__(self) -> None:
        uses = [made.recorded.buffers for made in self.layers]
        self.slots = shared_slots(uses, [self.source, self.target])

    def __call__(self, x: SparseTensor) -> SparseTensor:
        """Features (N, in) -> (N, out), of the plan's type, on the same voxels. Raises ResourceError where the memory
        is too small."""
        with as_resource_error(len(x)):
            maps = maps_of([made.recorded for made in self.layers], x.manager)
            memory = self._memory(x)
            self._run(maps, memory)
        return x.replace(memory[self.target])

    def _memory(self, x: SparseTensor) -> Memory:
        """A tensor for each buffer."""
        rows = {b.stride: len(x.manager.voxels(b.stride)) for b in [*self.slots, self.target]}
        require(len(x) * self.target.channels * x.feats.element_size(), len(x), x.feats.device)
        memory = allocate(self.slots, rows, x.feats)
        memory[self.target] = arena.empty(len(x), self.target.channels, x.feats)
        memory[self.source] = nn.functional.pad(x.feats, (0, self.source.channels - x.feats.shape[1])).contiguous()
        return memory

    def _run(self, maps: list[KernelMap], memory: Memory) -> None:
        threads = torch.get_num_threads()
        pairs = pairs_in_a_block(memory[self.source])
        steps, room = [], 1
        for made, kernel_map in zip(self.layers, maps, strict=True):
            step, rows = _step(made, kernel_map, memory, pairs, threads)
            steps.append(step)
            room = max(room, rows * made.recorded.target.channels)
        run_steps(steps, room)


def maps_of(layers: list[Recorded], manager: CoordinateManager) -> list[KernelMap]:
    """The kernel map of each layer. With several threads, one makes the first, which is the largest."""
    stencils = [made.stencil for made in layers]
    aside = run_in_background(manager.kernel_map, *stencils[0]) if torch.get_num_threads() > 1 else None
    found = {stencil: manager.kernel_map(*stencil) for stencil in stencils if aside is None or stencil != stencils[0]}
    if aside is not None:
        found[stencils[0]] = aside.result()
    return [found[s.stencil].transposed if s.transposed else found[s.stencil] for s in layers]


def _step(made: Layer, kernel_map: KernelMap, memory: Memory, pairs: int, threads: int) -> tuple[Step, int]:
    """The layer's record, and the rows of its largest block."""
    recorded, cut = made.recorded, kernel_map.cut(pairs, threads)
    feats, wide = place(recorded.source, memory)
    out, out_wide = place(recorded.target, memory)
    beside, beside_wide = (0, 0) if recorded.shortcut is None else place(recorded.shortcut, memory)
    step = step_of(
        made.function,
        kernel_map,
        cut,
        (feats, wide, recorded.source.channels),
        made.kernel.data_ptr(),
        made.bias,
        out=out,
        out_wide=out_wide,
        columns=recorded.target.channels,
        shortcut=beside,
        shortcut_wide=beside_wide,
        shortcut_channels=0 if recorded.shortcut is None else recorded.shortcut.channels,
        matrix=0 if made.matrix is None else made.matrix.data_ptr(),
    )
    return step, cut.most
