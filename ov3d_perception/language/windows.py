"""Dense features window by window, for towers that were trained on crops much smaller than a camera image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


class WindowSettings(Protocol):
    """The part of the dense settings that matters here; pixels."""

    @property
    def window(self) -> int: ...
    @property
    def stride(self) -> int: ...
    @property
    def batch(self) -> int: ...


def starts(length: int, window: int, stride: int) -> list[int]:
    """First cells of windows that cover ``length`` cells; the last one ends flush with the end."""
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]


def dense_in_windows(
    run: Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b d gh gw"]],
    pixels: Float[Tensor, "b 3 h w"],
    patch: tuple[int, int],
    settings: WindowSettings,
) -> Float[Tensor, "b d gh gw"]:
    """Features of overlapping windows, averaged where they overlap and normalised again.

    Every patch counts more the nearer it is to its window's centre (a tent), since it sees more around it there.
    """
    grid = tuple(side // p for side, p in zip(pixels.shape[2:], patch, strict=True))
    cells = tuple(min(g, max(1, settings.window // p)) for g, p in zip(grid, patch, strict=True))
    step = tuple(max(1, (settings.stride or settings.window) // p) for p in patch)
    corners = [(i, j) for i in starts(grid[0], cells[0], step[0]) for j in starts(grid[1], cells[1], step[1])]
    weight = _tent(cells[0]).view(-1, 1) * _tent(cells[1])
    weight = weight.to(pixels.device)
    jobs = [(b, i, j) for b in range(len(pixels)) for i, j in corners]
    total: Tensor | None = None
    for start in range(0, len(jobs), settings.batch):
        chunk = jobs[start : start + settings.batch]
        features = run(torch.stack([_crop(pixels[b], i, j, cells, patch) for b, i, j in chunk]))
        if total is None:
            total = features.new_zeros(len(pixels), features.shape[1], *grid)
        for (b, i, j), feature in zip(chunk, features, strict=True):
            total[b, :, i : i + cells[0], j : j + cells[1]] += feature * weight
    assert total is not None
    return functional.normalize(total, dim=1)


def _crop(image: Tensor, row: int, column: int, cells: tuple[int, ...], patch: tuple[int, int]) -> Tensor:
    (i, j), (h, w) = (row * patch[0], column * patch[1]), (cells[0] * patch[0], cells[1] * patch[1])
    return image[:, i : i + h, j : j + w]


def _tent(cells: int) -> Tensor:
    centre = (cells - 1) / 2
    return 1.0 - (torch.arange(cells) - centre).abs() / (centre + 1.0)
