"""The map from above, for a wheeled robot: free ground, obstacles, and costs by word.

Grids are arrays of (rows, columns) = (y, x) as in nav_msgs/OccupancyGrid: cell (0, 0) has its lower left corner at the
origin, values are -1 (unknown) and 0 .. 100.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int8, Int64, Real

from ov3d_perception.errors import Ov3dError
from ov3d_perception.geometry.ground import lowest_in_cells, opened

UNKNOWN, FREE, OCCUPIED = -1, 0, 100
MAX_CELLS = 25_000_000


@dataclass(frozen=True)
class Layout:
    """Where a grid lies: origin (x, y) of cell (0, 0)'s lower left corner and edge of a cell, metres; width, height in
    cells. The origin is a multiple of the cell's edge, so cells stay where they are when the grid grows."""

    origin: tuple[float, float]
    resolution: float
    width: int
    height: int

    @classmethod
    def around(cls, xy: Float[np.ndarray, "n d"], resolution: float) -> Layout:
        """The smallest grid that holds all points (at least one). Raises Ov3dError beyond 25 million cells."""
        ends = np.array([[column.min(), column.max()] for column in (xy[:, 0], xy[:, 1])], np.float64)
        low, high = np.floor(ends / resolution).astype(np.int64).T
        width, height = (high - low + 1).tolist()
        if width * height > MAX_CELLS:
            raise Ov3dError(
                f"A grid of {width} x {height} cells of {resolution:.2f} m has more than {MAX_CELLS} of them",
                "Set mask_resolution to larger cells, or max_age so that the map forgets far places",
            )
        return cls((float(low[0] * resolution), float(low[1] * resolution)), resolution, width, height)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    def cells(self, xy: Real[np.ndarray, "n d"]) -> Int64[np.ndarray, " n"]:
        """Index into the flattened grid of each point's cell, -1 outside."""
        column, row = (
            np.floor(np.asarray(axis, np.float64) / self.resolution).astype(np.int64) - round(start / self.resolution)
            for axis, start in zip((xy[:, 0], xy[:, 1]), self.origin, strict=True)
        )
        inside = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        return np.where(inside, row * self.width + column, -1)

    def centres(self, cells: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, "n 2"]:
        """x and y of the cells' centres, metres."""
        row, column = np.divmod(cells, self.width)
        return (np.stack([column, row], 1) + 0.5) * self.resolution + self.origin


@dataclass(frozen=True)
class Body:
    """What a robot drives over and under, metres.

    step: obstacles up to this height are driven over. height: obstacles above it are driven under. gap: unknown ground
    up to this width between known ground counts as ground, as between a LiDAR's rings on the road.
    """

    step: float = 0.3
    height: float = 2.0
    gap: float = 0.6


@dataclass(frozen=True)
class GroundGrid:
    """Cells that are FREE (ground without an obstacle), OCCUPIED or UNKNOWN.

    ground: height of the ground in each cell, metres; NaN where no voxel is near. body: what it was made for.
    """

    layout: Layout
    state: Int8[np.ndarray, "h w"]
    ground: Float32[np.ndarray, "h w"]
    body: Body


def ground_grid(
    centres: Float32[np.ndarray, "n 3"], resolution: float, voxel_size: float, body: Body | None = None
) -> GroundGrid:
    """The grid of a map's voxels (at least one). resolution: edge of a cell; no less than ``voxel_size`` is used.

    The ground is the lowest voxel of each cell, opened (minimum, then maximum) over 4 m: narrower things that stand
    above their surroundings do not count as ground, even where theirs is hidden (progressive morphological filter,
    Zhang et al. 2003, with one window). Ground that rises by more than a step is occupied.
    """
    body = body or Body()
    layout = Layout.around(centres, max(resolution, voxel_size))
    cells = layout.cells(centres)
    lowest = lowest_in_cells(cells, centres[:, 2], layout.shape)
    ground = opened(lowest, max(1, round(2.0 / layout.resolution)))
    above = centres[:, 2] - ground.reshape(-1)[cells]
    step = max(body.step, 1.01 * voxel_size)  # level ground may lie in two layers of voxels
    seen, hit = (np.zeros(layout.shape, bool) for _ in range(2))
    seen.reshape(-1)[cells[above <= step]] = True
    hit.reshape(-1)[cells[(above > step) & (above <= body.height)]] = True
    hit |= _steep(lowest, seen, step)
    free = _without_gaps(seen, round(body.gap / layout.resolution)) & ~hit
    state = np.where(hit, np.int8(OCCUPIED), np.where(free, np.int8(FREE), np.int8(UNKNOWN)))
    return GroundGrid(layout, state, ground, body)


def cost_mask(grid: GroundGrid, costly: Iterable[tuple[Float32[np.ndarray, "_ 3"], int]]) -> Int8[np.ndarray, "h w"]:
    """The mask of Nav2's keepout filter: the highest cost in each cell, 0 on free ground, -1 elsewhere.

    costly: voxel centres and their costs, 0 .. 100. Voxels higher above the ground than the robot cost nothing. Free
    ground in gaps up to the body's between cells of one cost gets that cost, too. Only free ground is 0, since the
    filter makes unknown cells of a costmap free where the mask is 0.
    """
    layers: dict[int, Bool[np.ndarray, "h w"]] = {}
    for centres, cost in costly:
        cells = grid.layout.cells(centres)
        centres, cells = centres[cells >= 0], cells[cells >= 0]
        low = centres[:, 2] - grid.ground.reshape(-1)[cells] <= grid.body.height
        layers.setdefault(cost, np.zeros(grid.layout.shape, bool)).reshape(-1)[cells[low]] = True
    mask = np.where(grid.state == FREE, np.int8(0), np.int8(-1))
    width = round(grid.body.gap / grid.layout.resolution)
    for cost, layer in sorted(layers.items()):
        mask[layer | (_without_gaps(layer, width) & (grid.state == FREE))] = cost
    return mask


def refined(
    layout: Layout, values: Int8[np.ndarray, "h w"], cell: float, size: tuple[float, float] = (0.0, 0.0)
) -> tuple[Layout, Int8[np.ndarray, "H W"]]:
    """The same mask in smaller cells: the whole fraction of the present ones that is nearest to ``cell`` metres.

    size: least width and height, metres; what is added at the right and at the top is unknown. cell: 0 leaves them.
    Where there would be more than 25 million cells they stay larger. Raises Ov3dError where even the present ones, with
    what is added, are more.
    """
    split = max(1, round(layout.resolution / cell)) if cell > 0 else 1
    while True:
        edge = layout.resolution / split
        width = max(layout.width * split, int(np.ceil(size[0] / edge - 1e-6)))
        height = max(layout.height * split, int(np.ceil(size[1] / edge - 1e-6)))
        if width * height <= MAX_CELLS:
            break
        if split == 1:
            raise Ov3dError(
                f"A mask of {width} x {height} cells of {edge:.3f} m has more than {MAX_CELLS} of them",
                "Set mask_size to no more than the costmap's size",
            )
        split -= 1
    fine = np.full((height, width), UNKNOWN, np.int8)
    fine[: layout.height * split, : layout.width * split] = values.repeat(split, 0).repeat(split, 1)
    return Layout(layout.origin, edge, width, height), fine


def parse_costs(lines: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """``word: cost`` lines to costs by word, and a sentence for each line that is wrong."""
    costs: dict[str, int] = {}
    errors = []
    for line in lines:
        word, _, number = (part.strip() for part in line.rpartition(":"))
        if not word or not number.isdecimal() or int(number) > 100:
            errors.append(f"'{line}' is no cost. Write 'word: cost' with a whole number from 0 to 100.")
        else:
            costs[word] = max(int(number), costs.get(word, 0))
    return costs, errors


def words_of(costs: Mapping[str, int], classes: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Costs by word, where the name of a class stands for the words of the class; the highest cost of a word counts.

    In rising order: the map may grow while the words are asked in turn, and the most costly is asked last, in its
    newest state.
    """
    spread: dict[str, int] = {}
    for name, cost in costs.items():
        for word in classes.get(name.replace(" ", "_"), classes.get(name, [name])):
            spread[word] = max(cost, spread.get(word, 0))
    return dict(sorted(spread.items(), key=lambda item: item[1]))


def _steep(lowest: Float32[np.ndarray, "h w"], seen: Bool[np.ndarray, "h w"], step: float) -> Bool[np.ndarray, "h w"]:
    """Cells of ground that rises by more than a step among their eight neighbours: a bank, the edge of a platform."""
    kernel = np.ones((3, 3), np.uint8)
    top = cv2.dilate(np.where(seen, lowest, -np.inf), kernel, borderValue=-float("inf"))
    bottom = cv2.erode(np.where(seen, lowest, np.inf), kernel, borderValue=float("inf"))
    return np.asarray(seen & (top - bottom > step))


def _without_gaps(seen: Bool[np.ndarray, "h w"], width: int) -> Bool[np.ndarray, "h w"]:
    """Close gaps of up to ``width`` cells between cells seen; cells outside the grid count as unseen."""
    kernel = np.ones((width + 1, width + 1), np.uint8)
    padded = np.pad(seen.astype(np.uint8), width + 1)
    # An even kernel has no middle: the first step shifts by half a cell, the second shifts back.
    closed = cv2.erode(cv2.dilate(padded, kernel, anchor=(0, 0)), kernel, anchor=(width, width))
    return closed[width + 1 : -width - 1, width + 1 : -width - 1].astype(bool)
