"""A network as a list of layers that compiled code runs through: no Python and no PyTorch between them.

The list is recorded: the network is called once with a :class:`Traced` tensor, which remembers what is done to it. So a
network is written down once, in its ``forward``. On a scan, all kernel maps are made, every layer's addresses are put
into a table, and the table is run (:mod:`~ov3d_perception.sparse.layer_code`). Tensors that are put side by side later
(skip connections) are written side by side from the beginning. A tensor's memory is used again when the last layer that
reads it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from ov3d_perception.sparse import kernels
from ov3d_perception.sparse.convolution import pairs_in_a_block
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.kernel_map import KernelMap, Stencil
from ov3d_perception.sparse.layer_code import Step, layer, packed, runner, step_of
from ov3d_perception.sparse.modules import Conv3d, ConvTranspose3d
from ov3d_perception.sparse.runtime import arena
from ov3d_perception.sparse.runtime.memory import as_resource_error, require
from ov3d_perception.sparse.runtime.one_core_pool import one_core_pool
from ov3d_perception.sparse.runtime.workers import run_in_background
from ov3d_perception.sparse.tensor import SparseTensor


class UntraceableError(Exception):
    """The network does something that no layer of a plan does."""


@dataclass(eq=False)
class Buffer:
    """Rows of a tensor, or of several side by side. whole: the buffer that it is a part of, and its first column."""

    stride: int
    channels: int
    whole: tuple[Buffer, int] | None = None

    def place(self) -> tuple[Buffer, int]:
        """The buffer that has memory, and the first column in it."""
        if self.whole is None:
            return self, 0
        buffer, column = self.whole[0].place()
        return buffer, column + self.whole[1]


class Layer(NamedTuple):
    """A convolution, its bias, a shortcut and ReLU. kernel, matrix: packed; matrix: of the shortcut, if it has one."""

    stencil: Stencil
    transposed: bool
    source: Buffer
    target: Buffer
    kernel: Tensor
    bias: Float32[Tensor, " o"]
    shortcut: Buffer | None
    matrix: Tensor | None
    function: int


class _Nowhere(CoordinateManager):
    """No voxels, and none to come."""

    def expect(self, stencils: Sequence[Stencil], feats: Tensor) -> None:
        """Nothing."""

    def convolve(self, *args: Any, **options: Any) -> Tensor:
        """Refused: only :func:`fused.convolve_normalised` is recorded."""
        raise UntraceableError("it convolves by itself")


class Traced(SparseTensor):
    """Stands for a tensor while a network is recorded."""

    buffer: Buffer
    layers: list[Layer]

    def __init__(self, buffer: Buffer, layers: list[Layer], like: Tensor, manager: CoordinateManager) -> None:
        found = (like.new_zeros(0, buffer.channels), buffer.stride, manager, buffer, layers)
        for name, value in zip(("feats", "stride", "manager", "buffer", "layers"), found, strict=True):
            object.__setattr__(self, name, value)

    def replace(self, feats: Tensor) -> SparseTensor:
        """Not recorded."""
        raise UntraceableError("features are computed by other operations than layers")

    def beside(self, tensors: Sequence[SparseTensor]) -> SparseTensor:
        """One buffer, of which those of the tensors are parts."""
        whole = Buffer(self.stride, sum(t.feats.shape[1] for t in tensors))
        column = 0
        for part in tensors:
            if not isinstance(part, Traced) or part.buffer.whole is not None or not part.layers:
                raise UntraceableError("a tensor is put side by side with others twice")
            part.buffer.whole = (whole, column)
            column += part.buffer.channels
        return Traced(whole, self.layers, self.feats, self.manager)

    def convolve(
        self,
        conv: Conv3d | ConvTranspose3d,
        scale: Tensor | None,
        shift: Tensor | None,
        shortcut: SparseTensor | None,
        matrix: Tensor | None,
    ) -> Traced:
        """Record ``relu(conv(self) * scale + shift + shortcut @ matrix)``."""
        fits = kernels.fits(self.feats, conv.out_channels) and conv.kernel.dtype == self.feats.dtype
        if not fits or conv.pointwise or (shortcut is not None and not isinstance(shortcut, Traced)):
            raise UntraceableError(f"no compiled layer for {conv}")
        transposed = isinstance(conv, ConvTranspose3d)
        stride = self.stride // conv.stride if transposed else self.stride * conv.stride
        fine, coarse = sorted((self.stride, stride))
        stencil = Stencil(fine, coarse, conv.kernel_size, conv.dilation)
        kernel = conv.kernel if scale is None else (conv.kernel * scale).to(conv.kernel.dtype)
        bias = torch.zeros(conv.out_channels) if shift is None else shift.float().clone()
        kind = "none" if shortcut is None else "same" if matrix is None else "projected"
        self.layers.append(
            Layer(
                stencil,
                transposed,
                self.buffer,
                Buffer(stride, conv.out_channels),
                packed(kernel),
                bias,
                None if shortcut is None else shortcut.buffer,
                None if matrix is None else packed(matrix[None]),
                layer(conv.out_channels, self.feats.dtype, kind, relu=True),
            )
        )
        return Traced(self.layers[-1].target, self.layers, self.feats, self.manager)


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
        source, layers = Buffer(1, even), list[Layer]()
        nowhere = _Nowhere(torch.zeros(0, 4, dtype=torch.int64))
        with torch.no_grad():
            out = network(Traced(source, layers, torch.zeros(0, dtype=dtype), nowhere))
        if not isinstance(out, Traced) or out.buffer.whole is not None or out.buffer is source:
            raise UntraceableError("the result is part of another tensor")
        return cls(source, layers, out.buffer, dtype)

    def __post_init__(self) -> None:
        last: dict[Buffer, int] = {}
        for number, made in enumerate(self.layers):
            for read in (made.source, made.shortcut, made.target):
                if read is not None:
                    last[read.place()[0]] = number
        self.slots, free_after = {}, list[tuple[int, int]]()  # stride and last layer of what each slot holds
        for number, made in enumerate(self.layers):
            buffer = made.target.place()[0]
            if buffer in self.slots or buffer is self.target:
                continue
            free = [s for s, (stride, until) in enumerate(free_after) if stride == buffer.stride and until < number]
            slot = free[0] if free else len(free_after)
            free_after[slot : slot + 1] = [(buffer.stride, last[buffer])]
            self.slots[buffer] = slot

    def __call__(self, x: SparseTensor) -> SparseTensor:
        """Features (N, in) -> (N, out), of the plan's type, on the same voxels. Raises ResourceError where the memory
        is too small."""
        with as_resource_error(len(x)):
            maps = self._maps(x.manager)
            memory = self._memory(x)
            self._run(maps, memory)
        return x.replace(memory[self.target])

    def _maps(self, manager: CoordinateManager) -> list[KernelMap]:
        """The kernel map of each layer. With several threads, one makes the first, which is the largest."""
        stencils = [made.stencil for made in self.layers]
        aside = run_in_background(manager.kernel_map, *stencils[0]) if torch.get_num_threads() > 1 else None
        found = {
            stencil: manager.kernel_map(*stencil) for stencil in stencils if aside is None or stencil != stencils[0]
        }
        if aside is not None:
            found[stencils[0]] = aside.result()
        return [found[s.stencil].transposed if s.transposed else found[s.stencil] for s in self.layers]

    def _memory(self, x: SparseTensor) -> dict[Buffer, Tensor]:
        """A tensor for each buffer; those of one slot overlap."""
        rows = {buffer: len(x.manager.voxels(buffer.stride)) for buffer in [*self.slots, self.target]}
        size = dict.fromkeys(self.slots.values(), 0)
        for buffer, slot in self.slots.items():
            size[slot] = max(size[slot], rows[buffer] * buffer.channels)
        elements = sum(size.values()) + rows[self.target] * self.target.channels
        require(elements * x.feats.element_size(), len(x), x.feats.device)
        held = {slot: arena.empty(1, most, x.feats).flatten() for slot, most in size.items()}
        found = {
            buffer: held[slot][: rows[buffer] * buffer.channels].view(rows[buffer], buffer.channels)
            for buffer, slot in self.slots.items()
        }
        found[self.target] = arena.empty(rows[self.target], self.target.channels, x.feats)
        found[self.source] = nn.functional.pad(x.feats, (0, self.source.channels - x.feats.shape[1])).contiguous()
        return found

    def _run(self, maps: list[KernelMap], memory: dict[Buffer, Tensor]) -> None:
        threads = torch.get_num_threads()
        pairs = pairs_in_a_block(memory[self.source])
        steps, room = [], 1
        for made, kernel_map in zip(self.layers, maps, strict=True):
            step, rows = _step(made, kernel_map, memory, pairs, threads)
            steps.append(step)
            room = max(room, rows * made.target.channels)
        table, counters = torch.tensor(steps), torch.zeros(2 * len(steps), dtype=torch.int64)
        sums = arena.empty(threads, room, made.bias)
        run = runner()

        def work(thread: int) -> None:
            run(table.data_ptr(), counters.data_ptr(), sums[thread].data_ptr(), len(steps))

        pool = one_core_pool("sparse", threads)
        others = [pool.submit(work, thread) for thread in range(1, threads)]
        work(0)
        for other in others:  # one that has not begun has nothing left to do
            if not other.cancel():
                other.result()


def _step(
    made: Layer, kernel_map: KernelMap, memory: dict[Buffer, Tensor], pairs: int, threads: int
) -> tuple[Step, int]:
    """The layer's record, and the rows of its largest block."""
    cut = kernel_map.cut(pairs, threads)
    feats, wide = _place(made.source, memory)
    out, out_wide = _place(made.target, memory)
    beside, beside_wide = (0, 0) if made.shortcut is None else _place(made.shortcut, memory)
    step = step_of(
        made.function,
        kernel_map,
        cut,
        (feats, wide, made.source.channels),
        made.kernel,
        made.bias,
        out=out,
        out_wide=out_wide,
        columns=made.target.channels,
        shortcut=beside,
        shortcut_wide=beside_wide,
        shortcut_channels=0 if made.shortcut is None else made.shortcut.channels,
        matrix=0 if made.matrix is None else made.matrix.data_ptr(),
    )
    return step, cut.most


def _place(buffer: Buffer, memory: dict[Buffer, Tensor]) -> tuple[int, int]:
    """Address of a buffer's first element, and elements from row to row."""
    whole, column = buffer.place()
    rows: Float[Tensor, "n c"] = memory[whole]
    return rows.data_ptr() + column * rows.element_size(), whole.channels
