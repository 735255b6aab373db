"""A labelled cloud or map from above: height-ordered, softly shaded points on dark ground, with legend and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8
from PIL import Image, ImageDraw

from ov3d_perception.geometry.boxes import Box
from ov3d_perception.types import Pose
from ov3d_perception.viz.canvas import FAINT, INK, font, legend, present, text_width
from ov3d_perception.viz.palette import colour, colourise, colours

BACKGROUND = (14, 17, 23)
GRID = (27, 32, 41)


@dataclass(frozen=True)
class Annotations:
    """What is drawn over the points. All in the frame of the points.

    boxes: outlined, with their labels. ego: pose of the vehicle (x forward), ego_length: its length. path: where it
    drove, (m, 2 or 3) metres. title, subtitle: top left. legend_title: over the legend.
    """

    boxes: Sequence[Box] = ()
    ego: Pose | None = None
    ego_length: float = 4.5
    path: Float[np.ndarray, "m d"] | None = None
    title: str = ""
    subtitle: str = ""
    legend_title: str = ""


@dataclass(frozen=True)
class Canvas:
    """The picture's frame: ``width`` x ``height`` pixels around ``centre`` (x, y in metres), x right and y up.

    scale: pixels per metre. supersample: everything is drawn that many times larger, then averaged down.
    """

    width: int
    height: int
    centre: tuple[float, float]
    scale: float
    supersample: int = 2

    def pixels(self, xy: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 2"]:
        """Where points given in metres land, in pixels."""
        offset = (np.asarray(xy)[:, :2] - self.centre) * [self.scale, -self.scale]
        return offset + np.array([self.width, self.height]) / 2

    def enlarged(self) -> Canvas:
        """The canvas that is drawn on."""
        n = self.supersample
        return replace(self, width=self.width * n, height=self.height * n, scale=self.scale * n)


def fit(
    xyz: Float32[np.ndarray, "n d"], width: int = 1600, height: int = 900, margin: float = 0.04, supersample: int = 2
) -> Canvas:
    """A canvas that shows all but the outermost hundredth of the points."""
    if len(xyz) == 0:
        return Canvas(width, height, (0.0, 0.0), height / 60, supersample)
    low, high = np.percentile(xyz[:, :2], [0.5, 99.5], axis=0)
    scale = (1 - 2 * margin) * float(min(width / max(high[0] - low[0], 1.0), height / max(high[1] - low[1], 1.0)))
    middle = (low + high) / 2
    return Canvas(width, height, (float(middle[0]), float(middle[1])), scale, supersample)


def bird_eye(
    xyz: Float32[np.ndarray, "n 3"],
    labels: Int32[np.ndarray, " n"],
    names: Sequence[str],
    *,
    canvas: Canvas | None = None,
    point_size: float = 0.14,
    rgb: UInt8[np.ndarray, "n 3"] | None = None,
    notes: Annotations | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture, RGB.

    xyz: metres, z up. labels: class of each point, anything outside ``names`` is grey. point_size: diameter in metres
    (for a map: its voxel), at least 1.7 pixels. rgb: other colours than those of the classes (then without legend).
    """
    canvas, notes = canvas or fit(xyz), notes or Annotations()
    large = canvas.enlarged()
    picture = Image.fromarray(_draw_points(large, xyz, colourise(labels, names) if rgb is None else rgb, point_size))
    size = max(12 * large.supersample, large.height // 48)
    _draw_path(picture, large, notes)
    _draw_boxes(picture, large, notes.boxes, size)
    if notes.ego is not None:
        _draw_ego(picture, large, notes.ego, notes.ego_length)
    _draw_scale(picture, large, size)
    draw = ImageDraw.Draw(picture)
    draw.text((size * 1.4, size * 1.2), notes.title, fill=INK, font=font(round(1.5 * size)))
    draw.text((size * 1.4, size * (3.2 if notes.title else 1.2)), notes.subtitle, fill=FAINT, font=font(size))
    if rgb is None:
        legend(picture, present(labels, names, colours(names)), size, notes.legend_title)
    return np.asarray(picture.resize((canvas.width, canvas.height), Image.Resampling.BOX))


def _draw_points(
    canvas: Canvas, xyz: Float32[np.ndarray, "n 3"], rgb: UInt8[np.ndarray, "n 3"], point_size: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Discs, higher ones over lower ones, lit by height."""
    order = np.argsort(xyz[:, 2], kind="stable")
    centres = np.floor(canvas.pixels(xyz[order])).astype(np.int64)
    radius = max(0.85 * canvas.supersample, point_size * canvas.scale / 2)
    winner = _topmost(centres, radius, canvas.width, canvas.height)
    covered = winner >= 0
    picture = np.empty((canvas.height, canvas.width, 3), np.uint8)
    picture[:] = BACKGROUND
    _draw_grid(picture, canvas)
    z = xyz[order, 2]
    surface = np.full(winner.shape, z[0] if len(z) else 0, np.float32)
    surface[covered] = z[winner[covered]]
    light = _relief(surface, reach=max(2, round(1.5 * radius)))[covered] * _height_light(z)[winner[covered]]
    lit = rgb[order][winner[covered]] * light[:, None]
    picture[covered] = np.clip(lit, 0, 255).astype(np.uint8)
    return picture


def _topmost(centres: np.ndarray, radius: float, width: int, height: int) -> Int32[np.ndarray, "h w"]:
    """Per pixel the last (so the highest) of the points whose disc covers it, -1 where there is none."""
    reach = int(np.ceil(radius))
    winner = np.full((height, width), -1, np.int32)
    rank = np.arange(len(centres), dtype=np.int32)
    for dv in range(-reach, reach + 1):
        for du in range(-reach, reach + 1):
            if du * du + dv * dv > radius * radius:
                continue
            u, v = centres[:, 0] + du, centres[:, 1] + dv
            inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
            layer = np.full(height * width, -1, np.int32)
            layer[v[inside] * width + u[inside]] = rank[inside]  # of equal indices the last one stays
            np.maximum(winner, layer.reshape(height, width), out=winner)
    return winner


def _relief(surface: Float32[np.ndarray, "h w"], reach: int) -> Float32[np.ndarray, "h w"]:
    """Darkens what lies just below something higher (eye-dome lighting, Boucheny 2009, from above)."""
    above = cv2.dilate(surface, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) - surface
    return 0.5 + 0.5 * np.exp(-0.22 * np.clip(cv2.blur(above, (reach, reach)), 0, 4))


def _height_light(z: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """The ground a little darker than what rises from it."""
    if len(z) == 0:
        return z
    low, high = np.percentile(z, [2, 95])
    return (0.76 + 0.36 * np.clip((z - low) / max(high - low, 0.5), 0, 1)).astype(np.float32)


def _draw_grid(picture: np.ndarray, canvas: Canvas) -> None:
    """Thin lines every ten metres, fifty in a wide view."""
    thick = canvas.supersample
    spacing = 10.0 if canvas.scale * 10 > 40 * thick else 50.0
    half = np.array([canvas.width, canvas.height]) / 2 / canvas.scale
    low, high = np.ceil((canvas.centre - half) / spacing), np.floor((canvas.centre + half) / spacing)
    for x in np.arange(low[0], high[0] + 1) * spacing:
        column = int(canvas.pixels(np.array([[x, 0]]))[0, 0])
        picture[:, column : column + thick] = GRID
    for y in np.arange(low[1], high[1] + 1) * spacing:
        row = int(canvas.pixels(np.array([[0, y]]))[0, 1])
        picture[row : row + thick] = GRID


def _draw_path(picture: Image.Image, canvas: Canvas, notes: Annotations) -> None:
    if notes.path is not None and len(notes.path) > 1:
        line = [tuple(point) for point in canvas.pixels(notes.path).tolist()]
        ImageDraw.Draw(picture, "RGBA").line(
            line, fill=(255, 255, 255, 150), width=max(2, canvas.height // 400), joint="curve"
        )


def _draw_boxes(picture: Image.Image, canvas: Canvas, boxes: Sequence[Box], size: int) -> None:
    """Outlines with a tag above each, or below; one that would cover an earlier tag, or stick out, is left out."""
    draw, face = ImageDraw.Draw(picture, "RGBA"), font(size)
    taken: list[tuple[float, ...]] = []
    pad = 0.35 * size
    for box in boxes:
        corners = canvas.pixels(box.corners[:4])
        outline = [tuple(corner) for corner in [*corners.tolist(), corners[0].tolist()]]
        draw.polygon(outline[:4], fill=(*colour(box.label), 46))
        draw.line(outline, fill=(255, 255, 255, 235), width=max(2, canvas.height // 450), joint="curve")
        text = box.text or box.label.replace("_", " ")
        x, width = corners[:, 0].mean() - text_width(text, face) / 2, text_width(text, face)
        for y in (corners[:, 1].min() - 1.8 * size, corners[:, 1].max() + 0.6 * size):
            tag = (x - pad, y - pad * 0.6, x + width + pad, y + size + pad)
            inside = tag[0] >= 0 and tag[1] >= 0 and tag[2] <= canvas.width and tag[3] <= canvas.height
            if text and inside and not any(_overlap(tag, other) for other in taken):
                taken.append(tag)
                draw.rounded_rectangle(tag, radius=pad, fill=(*colour(box.label), 230))
                draw.text((x, y), text, fill=(12, 14, 18), font=face)
                break


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _draw_ego(picture: Image.Image, canvas: Canvas, ego: Pose, length: float) -> None:
    """An arrowhead, at least 14 pixels long."""
    length = max(length, 14 * canvas.supersample / canvas.scale)
    shape = np.array([[0.5, 0.0], [-0.5, 0.36], [-0.28, 0.0], [-0.5, -0.36]]) * length
    heading = ego[:2, 0] / max(float(np.linalg.norm(ego[:2, 0])), 1e-9)
    R = np.array([[heading[0], -heading[1]], [heading[1], heading[0]]])
    corners = [tuple(point) for point in canvas.pixels(shape @ R.T + ego[:2, 3]).tolist()]
    draw = ImageDraw.Draw(picture, "RGBA")
    draw.polygon(corners, fill=(255, 255, 255, 255))
    draw.line([*corners, corners[0]], fill=(12, 14, 18, 255), width=canvas.supersample)


def _draw_scale(picture: Image.Image, canvas: Canvas, size: int) -> None:
    """A bar of a round length, bottom left."""
    metres = max(m for m in (1, 2, 5, 10, 20, 50, 100, 200) if m == 1 or m * canvas.scale <= canvas.width / 6)
    draw, face = ImageDraw.Draw(picture), font(size)
    left, bottom, length = 1.4 * size, canvas.height - 1.6 * size, metres * canvas.scale
    draw.line(
        [(left, bottom - 0.4 * size), (left, bottom), (left + length, bottom), (left + length, bottom - 0.4 * size)],
        fill=INK,
        width=max(2, size // 9),
    )
    draw.text((left + length + 0.6 * size, bottom - 0.9 * size), f"{metres} m", fill=INK, font=face)
