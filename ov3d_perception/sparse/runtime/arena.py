"""Reuse of the memory of layers' outputs.

The C library returns large buffers to the system when they are freed, and gets new ones page by page, zeroed. The arena
keeps a buffer for the next tensor of about its size, in the next layer or the next scan. A buffer comes back when the
last tensor that shares its memory is gone, in any thread. It is freed after two hundred tensors of other sizes, or when
new memory is needed while much is idle.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

LEAST = 1 << 18
"""Bytes below which the C library reuses buffers itself."""
_PATIENCE = 200
_ALIGNED = 64
_WASTE = 1.5
_SPARE = 8 << 20
"""Idle bytes that are never freed for new memory."""


class Arena:
    """Buffers by size; safe to use from several threads."""

    def __init__(self) -> None:
        self._idle: list[tuple[int, np.ndarray]] = []
        """Time of its last use, and the buffer."""
        self._returned: deque[np.ndarray] = deque()
        self._lock = threading.Lock()
        self._wanted = 0

    def empty(self, rows: int, channels: int, like: Tensor) -> Num[Tensor, "n c"]:
        """An uninitialised tensor of the type and device of ``like``, whose memory is used again when it is gone. Small
        ones, and those of a GPU, are PyTorch's own."""
        size = rows * channels * like.element_size()
        if size < LEAST or like.device.type != "cpu":
            return like.new_empty(rows, channels)
        buffer = self._take(size)
        shift = -buffer.ctypes.data % _ALIGNED
        mine = buffer[shift : shift + size]
        weakref.finalize(mine, self._returned.append, buffer).atexit = False
        return torch.from_numpy(mine).view(like.dtype).view(rows, channels)

    def _take(self, size: int) -> np.ndarray:
        with self._lock:
            self._wanted += 1
            while self._returned:
                self._idle.append((self._wanted, self._returned.popleft()))
            fitting = [
                k for k, (_, b) in enumerate(self._idle) if size + _ALIGNED <= len(b) <= _WASTE * size + _ALIGNED
            ]
            if fitting:
                return self._idle.pop(min(fitting, key=lambda k: len(self._idle[k][1])))[1]
            self._idle = [(when, b) for when, b in self._idle if self._wanted - when < _PATIENCE]
            self._shrink(size)
        step = 1 << max(math.frexp(size)[1] - 4, 0)
        # Not np.empty: it asks for huge pages, and to zero two megabytes at a fault slows a pass down.
        buffer: np.ndarray = torch.empty(-(-size // step) * step + _ALIGNED, dtype=torch.uint8).numpy()
        return buffer

    def _shrink(self, size: int) -> None:
        """Free as many idle bytes as are needed, longest idle first, but never the spared ones."""
        idle = sum(len(buffer) for _, buffer in self._idle)
        least = max(idle - size, _SPARE)
        while idle > least:
            idle -= len(self._idle.pop(0)[1])


_shared = Arena()


def empty(rows: int, channels: int, like: Tensor) -> Num[Tensor, "n c"]:
    """See :meth:`Arena.empty`; from the arena of this process."""
    return _shared.empty(rows, channels, like)
