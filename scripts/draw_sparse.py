"""Draws docs/images/sparse.png: one small convolution, from the kernel maps that the engine itself computes for it.

    python scripts/draw_sparse.py [--out docs/images/sparse.png]

Nine voxels of a street seen from the side (y = 0: only x and z vary), a 3x3x3 convolution on them and a halving.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.search import offsets
from ov3d_perception.viz.canvas import font, save

VOXELS = [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (3, 0), (4, 0), (4, 1), (5, 1)]  # (x, z)
SHOWN = 5
"""The output row whose sum is written out."""
INK, FAINT, LINE = (28, 32, 40), (120, 128, 140), (214, 219, 226)
FIRST, CENTRE, SECOND = (66, 120, 205), (130, 138, 150), (222, 122, 44)
PAPER, FILLED = (255, 255, 255), (232, 238, 247)
WIDE, HIGH, PANEL = 1840, 1240, 900

Spot = tuple[float, float]
Colour = tuple[int, int, int]
Pairs = dict[tuple[int, int], list[tuple[int, int]]]


class Sheet:
    """A page to draw on, in pixels."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDE, HIGH), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, at: Spot, text: str, size: int = 22, colour: Colour = INK, middle: bool = False) -> None:
        """A line of text; ``middle``: ``at`` is its centre, else its top left."""
        self.draw.text(at, text, fill=colour, font=font(size), anchor="mm" if middle else "la")

    def cell(self, at: Spot, side: float, text: str, edge: Colour = CENTRE, fill: Colour = FILLED) -> None:
        """A voxel with its row."""
        x, y = at
        self.draw.rounded_rectangle((x + 3, y + 3, x + side - 3, y + side - 3), 8, fill=fill, outline=edge, width=3)
        self.text((x + side / 2, y + side / 2), text, round(side * 0.42), middle=True)

    def grid(self, at: Spot, side: float, columns: int, rows: int) -> None:
        """Faint lines."""
        x, y = at
        for i in range(columns + 1):
            self.draw.line((x + i * side, y, x + i * side, y + rows * side), fill=LINE, width=2)
        for i in range(rows + 1):
            self.draw.line((x, y + i * side, x + columns * side, y + i * side), fill=LINE, width=2)


def pairs_by_offset(manager: CoordinateManager, out_stride: int, size: int) -> Pairs:
    """(dx, dz) -> (input row, output row) pairs, of the kernel offsets with dy = 0."""
    kernel_map = manager.kernel_map(1, out_stride, size)
    axis, found = offsets(size), {}
    for slot, (ins, outs) in zip(kernel_map.slots, kernel_map.pairs(), strict=True):
        ix, iy, iz = slot % size, slot // size % size, slot // size**2
        if axis[iy] == 0:
            found[axis[ix], axis[iz]] = list(zip(ins.tolist(), outs.tolist(), strict=True))
    return found


def draw_voxels(sheet: Sheet, at: Spot) -> None:
    """Panel 1."""
    x, y = at
    sheet.text(at, "1  Occupied voxels only. Rows in the order of their keys (x, y, z)", 26)
    side, left, top = 108, x + 60, y + 80
    sheet.grid((left, top), side, 6, 3)
    for row, (vx, vz) in enumerate(VOXELS):
        sheet.cell((left + vx * side, top + (2 - vz) * side), side, str(row))
    for i in range(6):
        sheet.text((left + (i + 0.5) * side, top + 3 * side + 20), f"x {i}", 20, FAINT, middle=True)
    for i in range(3):
        sheet.text((left - 32, top + (2.5 - i) * side), f"z {i}", 20, FAINT, middle=True)
    note = left + 6 * side + 24
    for line, text in enumerate(("2, 3, 4 stand", "on each other:", "keys k, k+1,", "k+2, found by", "one search.")):
        sheet.text((note, top + 20 + 34 * line), text, 21, FAINT)


def draw_map(sheet: Sheet, at: Spot, pairs: Pairs) -> None:
    """Panel 2."""
    x, y = at
    sheet.text(at, "2  Kernel map: for each offset (dx, dz) the pairs  input > output", 26)
    wide, high, left, top = 286, 158, x, y + 56
    for (dx, dz), found in pairs.items():
        rank = (dx, dz)
        colour = CENTRE if rank == (0, 0) else FIRST if rank < (0, 0) else SECOND
        a, b = left + (dx + 1) * wide, top + (1 - dz) * high
        sheet.draw.rounded_rectangle((a + 4, b + 4, a + wide - 6, b + high - 6), 10, outline=colour, width=3)
        sheet.text((a + 16, b + 12), f"({dx:+d}, {dz:+d})".replace("+0", "0"), 21, colour)
        texts = [f"{i} > {o}" for i, o in found]
        if rank == (0, 0):
            texts = ["every row to itself"]
        for index, text in enumerate(texts):
            sheet.text((a + 16 + 88 * (index % 3), b + 46 + 32 * (index // 3)), text, 21)
    sheet.text(
        (left, top + 3 * high + 6), "blue: searched;  orange: its mirror image, each pair turned round", 21, FAINT
    )


def draw_sum(sheet: Sheet, at: Spot, pairs: Pairs) -> None:
    """Panel 3."""
    x, y = at
    sheet.text(at, f"3  Gather, multiply, sum: output row {SHOWN}", 26)
    terms = sorted((offset, i) for offset, found in pairs.items() for i, o in found if o == SHOWN)
    top, side = y + 66, 62
    for line, (offset, row) in enumerate(terms):
        here = top + line * 84
        colour = CENTRE if offset == (0, 0) else FIRST if offset < (0, 0) else SECOND
        sheet.cell((x + 20, here), side, str(row), colour)
        sheet.text((x + 96, here + 18), f"features of row {row}", 22)
        sheet.text((x + 318, here + 18), "x", 22, FAINT)
        sheet.draw.rectangle((x + 352, here + 6, x + 462, here + side - 6), outline=colour, width=3)
        label = f"K({offset[0]:+d}, {offset[1]:+d})".replace("+0", "0")
        sheet.text((x + 407, here + side / 2), label, 19, colour, middle=True)
        sheet.draw.line((x + 478, here + side / 2, x + 540, here + side / 2), fill=FAINT, width=3)
        sheet.draw.rectangle((x + 552, here + 10, x + 660, here + side - 10), fill=FILLED, outline=colour, width=3)
    low, end = top, top + len(terms) * 84 - 22
    sheet.draw.line([(x + 684, low), (x + 704, low), (x + 704, end), (x + 684, end)], fill=INK, width=3)
    sheet.text((x + 722, (low + end) / 2 - 44), "sum", 24)
    sheet.text((x + 722, (low + end) / 2 - 12), f"= row {SHOWN}", 24)
    for line, text in enumerate(
        (
            "Eight pairs of an offset at a time; what is multiplied is",
            "added from the registers to the output rows in the cache.",
        )
    ):
        sheet.text((x + 20, end + 34 + 34 * line), text, 21, FAINT)


def draw_halving(sheet: Sheet, at: Spot, manager: CoordinateManager, pairs: Pairs) -> None:
    """Panel 4."""
    x, y = at
    sheet.text(at, "4  Stride 2, kernel 2: each voxel has one parent and one offset", 26)
    side, left, top = 82, x + 60, y + 66
    tones: dict[tuple[int, int], Colour] = {
        (0, 0): FIRST,
        (1, 0): SECOND,
        (0, 1): (70, 150, 96),
        (1, 1): (160, 84, 160),
    }
    of_row = {i: offset for offset, found in pairs.items() for i, _ in found}
    sheet.grid((left, top), side, 6, 4)
    for row, (vx, vz) in enumerate(VOXELS):
        sheet.cell((left + vx * side, top + (3 - vz) * side), side, str(row), tones[of_row[row]])
    for row, (_, vx, _, vz) in enumerate(manager.voxels(2).coords.tolist()):
        a, b = left + vx * side, top + (2 - vz) * side
        sheet.draw.rounded_rectangle((a - 2, b - 2, a + 2 * side + 2, b + 2 * side + 2), 12, outline=INK, width=4)
        sheet.draw.ellipse((a + side - 19, b + side - 19, a + side + 19, b + side + 19), fill=INK)
        sheet.text((a + side, b + side), "abcdefgh"[row], 24, PAPER, middle=True)
    note = left + 6 * side + 30
    for line, (offset, found) in enumerate(sorted(pairs.items())):
        sheet.text((note, top + 90 * line), f"K({offset[0]}, {offset[1]})", 21, tones[offset])
        for index, (i, o) in enumerate(found):
            sheet.text(
                (note + 96 * (index % 2), top + 90 * line + 27 + 25 * (index // 2)), f"{i} > {'abcdefgh'[o]}", 20
            )
    for line, text in enumerate(
        (
            "Transposed: the same pairs and matrices, read from right to left; it gives back",
            "the nine voxels that the halving came from.",
        )
    ):
        sheet.text((x, top + 4 * side + 26 + 34 * line), text, 21, FAINT)


def draw() -> np.ndarray:
    """The whole page."""
    coords = torch.tensor([(0, x, 0, z) for x, z in VOXELS])
    manager = CoordinateManager(coords)
    convolution, halving = pairs_by_offset(manager, 1, 3), pairs_by_offset(manager, 2, 2)
    sheet = Sheet()
    draw_voxels(sheet, (40, 40))
    draw_map(sheet, (WIDE - PANEL, 40), convolution)
    draw_sum(sheet, (40, 640), convolution)
    draw_halving(sheet, (WIDE - PANEL, 640), manager, halving)
    return np.asarray(sheet.image)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/images/sparse.png")
    print(save(parser.parse_args().out, draw()))


if __name__ == "__main__":
    main()
