"""A network in inference as a list of layers that compiled code runs through: no Python and no PyTorch between them.

The list is recorded (:mod:`~ov3d_perception.sparse.recording`). On a scan, all kernel maps are made, every layer's
addresses are put into a table, and the table is run (:mod:`~ov3d_perception.sparse.steps`). A tensor's memory is used
again when the last layer that reads it is done. Between the first layer and the last one, features may be bytes
(:mod:`~ov3d_perception.sparse.plan_layers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from ov3d_perception.sparse.buffers import Buffer, Memory, allocate, place, rows_of, shared_slots
from ov3d_perception.sparse.convolution import pairs_in_a_block
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.kernel_map import KernelMap
from ov3d_perception.sparse.layer_code import Step, step_of
from ov3d_perception.sparse.plan_layers import Layer, byte_layers_of, layers_of
from ov3d_perception.sparse.recording import Recorded, record
from ov3d_perception.sparse.runtime import arena
from ov3d_perception.sparse.runtime.memory import as_resource_error, require
from ov3d_perception.sparse.runtime.workers import run_in_background
from ov3d_perception.sparse.steps import run_steps
from ov3d_perception.sparse.tensor import SparseTensor


@dataclass
class Plan:
    """The layers of a network in inference. ``plan(x)`` is ``network(x)``.

    dtype: of the features that it is given and gives; within: of those in between; slots: which memory each buffer has;
    buffers of one stride that are not needed at the same time share theirs.
    """

    source: Buffer
    layers: list[Layer]
    target: Buffer
    dtype: torch.dtype
    within: torch.dtype
    slots: dict[Buffer, int] = field(init=False)

    @classmethod
    def of(cls, network: nn.Module, channels: int, dtype: torch.dtype, largest: Sequence[float] = ()) -> Plan:
        """Record a network in evaluation mode, whose weights are of this type. Later changes of them have no effect.

        largest: of each layer's outputs (:meth:`largest_outputs`); with these, layers are computed in bytes. Raises
        UntraceableError for a network that does other things than convolve, normalise and join.
        """
        even = channels if dtype == torch.float32 else channels + channels % 2
        recording = record(network, even, dtype)
        with torch.no_grad():
            layers = byte_layers_of(recording, dtype, largest) if largest else layers_of(recording, dtype)
        return cls(recording.source, layers, recording.target, dtype, torch.uint8 if largest else dtype)

    def __post_init__(self) -> None:
        uses = [made.recorded.buffers for made in self.layers]
        self.slots = shared_slots(uses, [self.source, self.target])

    def __call__(self, x: SparseTensor) -> SparseTensor:
        """Features (N, in) -> (N, out), of the plan's type, on the same voxels. Raises ResourceError where the memory
        is too small."""
        with as_resource_error(len(x)):
            maps = maps_of([made.recorded for made in self.layers], x.manager)
            memory = self._memory(x)
            run_steps(*self._steps(maps, memory))
        return x.replace(memory[self.target])

    def largest_outputs(self, x: SparseTensor) -> list[float]:
        """The greatest output of each layer."""
        maps, memory = maps_of([made.recorded for made in self.layers], x.manager), self._memory(x)
        steps, room = self._steps(maps, memory)
        found = []
        for made, step in zip(self.layers, steps, strict=True):
            run_steps([step], room)
            found.append(float(rows_of(made.recorded.target, memory).max()))
        return found

    def _memory(self, x: SparseTensor) -> Memory:
        """A tensor for each buffer."""
        rows = {b.stride: len(x.manager.voxels(b.stride)) for b in [*self.slots, self.target]}
        require(len(x) * self.target.channels * x.feats.element_size(), len(x), x.feats.device)
        memory = allocate(self.slots, rows, x.feats.new_empty(0, 0, dtype=self.within))
        memory[self.target] = arena.empty(len(x), self.target.channels, x.feats)
        memory[self.source] = nn.functional.pad(x.feats, (0, self.source.channels - x.feats.shape[1])).contiguous()
        return memory

    def _steps(self, maps: list[KernelMap], memory: Memory) -> tuple[list[Step], int]:
        """The layers' records, and the room that a block needs."""
        threads = torch.get_num_threads()
        pairs = pairs_in_a_block(memory[self.source])
        steps, room = [], 1
        for made, kernel_map in zip(self.layers, maps, strict=True):
            step, rows = _step(made, kernel_map, memory, pairs, threads)
            steps.append(step)
            room = max(room, rows * made.recorded.target.channels)
        return steps, room


def maps_of(layers: list[Recorded], manager: CoordinateManager) -> list[KernelMap]:
    """The kernel map of each layer. With several threads, one makes the first, which is the largest; maps that it
    contains come after it."""
    stencils = [made.stencil for made in layers]
    aside = run_in_background(manager.kernel_map, *stencils[0]) if torch.get_num_threads() > 1 else None
    found = {s: manager.kernel_map(*s) for s in stencils if aside is None or not stencils[0].contains(s)}
    if aside is not None:
        aside.result()
    found |= {s: manager.kernel_map(*s) for s in stencils if s not in found}
    return [found[s.stencil].transposed if s.transposed else found[s.stencil] for s in layers]


def _step(made: Layer, kernel_map: KernelMap, memory: Memory, pairs: int, threads: int) -> tuple[Step, int]:
    """The layer's record, and the rows of its largest block."""
    recorded, cut = made.recorded, kernel_map.cut(pairs, threads)
    feats, wide = place(recorded.source, memory)
    out, out_wide = place(recorded.target, memory)
    optional = {"matrix": made.matrix, "scale": made.scale, "shortcut_scale": made.shortcut_scale}
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
        **{name: 0 if part is None else part.data_ptr() for name, part in optional.items()},
    )
    return step, cut.most
