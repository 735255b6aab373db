"""The tensors of a recorded network: which have memory of their own, which share it, and where they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Num
from torch import Tensor

from ov3d_perception.sparse.runtime import arena
from ov3d_perception.sparse.runtime.memory import require

_ALIGNED = 64
"""Elements; a row that begins a tensor begins a line of the cache, of bytes, too."""


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


Memory = dict[Buffer, Tensor]


def shared_slots(uses: Iterable[Iterable[Buffer]], own: Iterable[Buffer]) -> dict[Buffer, int]:
    """Which memory each buffer has: those of one stride that are not needed at the same time share theirs.

    uses: the buffers with memory that each layer reads or writes, in the order in which they run; own: these have
    theirs.
    """
    order, last = [list(used) for used in uses], dict[Buffer, int]()
    for number, used in enumerate(order):
        last |= dict.fromkeys(used, number)
    slots, free_after = dict[Buffer, int](), list[tuple[int, int]]()  # stride and last layer of what a slot holds
    others = set(own)
    for number, used in enumerate(order):
        for buffer in used:
            if buffer in slots or buffer in others:
                continue
            free = [s for s, (stride, until) in enumerate(free_after) if stride == buffer.stride and until < number]
            slot = free[0] if free else len(free_after)
            free_after[slot : slot + 1] = [(buffer.stride, last[buffer])]
            slots[buffer] = slot
    return slots


def allocate(slots: dict[Buffer, int], rows: dict[int, int], like: Num[Tensor, "n c"]) -> Memory:
    """A tensor for each buffer, of the type of ``like``, all in one piece of memory; those of one slot overlap. rows:
    voxels of each stride.

    Raises ResourceError where the memory is too small.
    """
    sizes = {buffer: rows[buffer.stride] * buffer.channels for buffer in slots}
    most = dict.fromkeys(slots.values(), 0)
    for buffer, slot in slots.items():
        most[slot] = max(most[slot], sizes[buffer])
    starts, total = dict[int, int](), 0
    for slot, size in most.items():
        starts[slot], total = total, total + -(-size // _ALIGNED) * _ALIGNED
    require(total * like.element_size(), rows[1], like.device)
    held = arena.empty(1, total, like).flatten()
    return {
        buffer: held[starts[slot] : starts[slot] + sizes[buffer]].view(rows[buffer.stride], buffer.channels)
        for buffer, slot in slots.items()
    }


def place(buffer: Buffer, memory: Memory) -> tuple[int, int]:
    """Address of a buffer's first element, and elements from row to row."""
    whole, column = buffer.place()
    rows: Num[Tensor, "n c"] = memory[whole]
    return rows.data_ptr() + column * rows.element_size(), rows.shape[1]


def rows_of(buffer: Buffer, memory: Memory) -> Num[Tensor, "n c"]:
    """A buffer's rows, as a view."""
    whole, column = buffer.place()
    return memory[whole][:, column : column + buffer.channels]
