"""Pictures of an evaluation, after CLIP2Scene's Figures 5 and 6: truth, answer, one class, errors; from above."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from ov3d_perception.geometry.upright import upright_points
from ov3d_perception.types import UNLABELLED, Frame
from ov3d_perception.viz.bev import Annotations, Canvas, bird_eye

GREY, RED, BRIGHT = (110, 116, 128), (255, 64, 64), (82, 156, 255)


class Pictures:
    """Draws the first frames that an evaluation answers.

    Args:
        folder: where ``<frame's name>.png`` goes.
        names: of the classes.
        count: of frames.
        reach: half the side of the square around the sensor that is drawn, metres.
        size: side of each of the four panels, pixels.
    """

    def __init__(self, folder: Path, names: Sequence[str], count: int, reach: float = 35.0, size: int = 640) -> None:
        self.folder, self.names, self.left = folder, names, count
        self.canvas = Canvas(size, size, (0.0, 0.0), size / (2 * reach))

    def __call__(self, frame: Frame, predicted: Int32[np.ndarray, " n"]) -> None:
        """Draw a frame, if it is among the first; predicted: label of each point of its key sweep."""
        if self.left == 0 or frame.labels is None:
            return
        self.left -= 1
        self.folder.mkdir(parents=True, exist_ok=True)
        picture = self.panels(upright_points(frame.sweeps[0].scan), frame.labels, predicted, frame.name)
        Image.fromarray(picture).save(self.folder / f"{frame.name.replace('/', '_')}.png")

    def panels(
        self,
        xyz: np.ndarray,
        truth: Int32[np.ndarray, " n"],
        predicted: Int32[np.ndarray, " n"],
        title: str = "",
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Truth and answer above; below the class that is best found among the rarer ones, and the errors."""
        known = truth != UNLABELLED
        chosen = highlighted(truth, predicted, len(self.names))
        name = self.names[chosen] if chosen is not None else "no class"
        one = _painted(len(xyz), (predicted == chosen, BRIGHT)) if chosen is not None else _painted(len(xyz))
        wrong = _painted(len(xyz), (known & (predicted != truth), RED))
        share_wrong = np.mean((predicted != truth)[known]) if known.any() else 0.0
        quarters = [
            self._panel(xyz, truth, None, f"{title}: truth"),
            self._panel(xyz, np.where(known, predicted, UNLABELLED).astype(np.int32), None, "answer"),
            self._panel(xyz, predicted, one, f"called {name}"),
            self._panel(xyz, predicted, wrong, f"wrong: {share_wrong:.0%}"),
        ]
        return np.vstack([np.hstack(quarters[:2]), np.hstack(quarters[2:])])

    def _panel(
        self, xyz: np.ndarray, labels: np.ndarray, rgb: UInt8[np.ndarray, "n 3"] | None, title: str
    ) -> UInt8[np.ndarray, "h w 3"]:
        return bird_eye(xyz, labels, self.names, canvas=self.canvas, rgb=rgb, notes=Annotations(title=title))


def highlighted(truth: Int32[np.ndarray, " n"], predicted: Int32[np.ndarray, " n"], classes: int) -> int | None:
    """The class of the highest IoU among those with at most a tenth of the labelled points; None without any."""
    known = truth != UNLABELLED
    total = np.bincount(truth[known], minlength=classes)[:classes]
    hit = np.bincount(truth[known & (predicted == truth)], minlength=classes)[:classes]
    claimed = np.bincount(predicted[known & (predicted >= 0) & (predicted < classes)], minlength=classes)[:classes]
    union = total + claimed - hit
    eligible = (total > 0) & (total <= known.sum() / 10)
    if not eligible.any():
        return None
    return int(np.argmax(np.where(eligible, hit / np.maximum(union, 1), -1.0)))


def _painted(count: int, *layers: tuple[np.ndarray, tuple[int, int, int]]) -> UInt8[np.ndarray, "n 3"]:
    rgb = np.full((count, 3), GREY, np.uint8)
    for rows, colour in layers:
        rgb[rows] = colour
    return rgb
