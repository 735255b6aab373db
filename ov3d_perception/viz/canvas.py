"""What the pictures share: type, legends, saving. Drawing is on PIL images; results are RGB arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

INK = (232, 236, 243)
FAINT = (146, 154, 168)
PANEL = (13, 16, 22, 200)

Entry = tuple[str, tuple[int, int, int]]


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own typeface at ``size`` pixels (before Pillow 10.1: its small bitmap face)."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def text_width(text: str, face: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> float:
    """Width of a line in pixels."""
    return float(face.getlength(text))


def legend(image: Image.Image, entries: Sequence[Entry], size: int, title: str = "", corner: str = "right") -> None:
    """Draws a panel of coloured dots and names into the top right or top left corner; nothing without entries."""
    if not entries:
        return
    draw, face, row, pad = ImageDraw.Draw(image, "RGBA"), font(size), round(1.55 * size), size
    widest = max([text_width(name, face) + 1.6 * size for name, _ in entries] + [text_width(title, face)])
    width, height = round(widest + 2 * pad), row * (len(entries) + bool(title)) + 2 * pad - (row - size) // 2
    left = image.width - width - size if corner == "right" else size
    draw.rounded_rectangle((left, size, left + width, size + height), radius=size * 0.6, fill=PANEL)
    y = size + pad
    if title:
        draw.text((left + pad, y), title, fill=FAINT, font=face)
        y += row
    for name, rgb in entries:
        dot = 0.36 * size
        centre = (left + pad + dot, y + 0.62 * size)
        draw.ellipse((centre[0] - dot, centre[1] - dot, centre[0] + dot, centre[1] + dot), fill=rgb)
        draw.text((left + pad + 1.5 * size, y), name, fill=INK, font=face)
        y += row


def present(labels: np.ndarray, names: Sequence[str], table: UInt8[np.ndarray, "c 3"], limit: int = 16) -> list[Entry]:
    """Legend entries of the classes that occur, the most frequent first."""
    counts = np.bincount(labels[(labels >= 0) & (labels < len(names))], minlength=len(names))
    order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]][:limit]
    return [(names[i].replace("_", " "), (int(table[i, 0]), int(table[i, 1]), int(table[i, 2]))) for i in order]


def save(path: Path, image: UInt8[np.ndarray, "h w 3"], description: str = "") -> Path:
    """Writes an RGB image as PNG, with the folders above it and the description as its text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = PngInfo()
    about.add_text("Description", description)
    Image.fromarray(image).save(path, "png", pnginfo=about)
    return path
