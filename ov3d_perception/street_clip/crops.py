"""Crops of simulated images: windows that the image tower sees, boxes within them that captions speak of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from ov3d_perception.street_clip.captions import shares_of


@dataclass(frozen=True)
class LabelledImage:
    """A simulated picture and, for each pixel, which class it shows (-1: nothing, the sky)."""

    image: UInt8[np.ndarray, "h w 3"]
    labels: np.ndarray


@dataclass(frozen=True)
class CropSettings:
    """window: pixels a side; patch: of the tower; boxes: per window; box_sizes: sides in patches that boxes may have.

    zoom: range of the factor by which windows are enlarged from the image (drawn evenly in its logarithm).
    rare_power: a class is picked with frequency^-rare_power as the thing a window or a box is about.
    """

    window: int = 96
    patch: int = 8
    boxes: int = 24
    box_sizes: tuple[int, ...] = (2, 2, 3, 4, 6, 12)
    zoom: tuple[float, float] = (0.9, 2.8)
    rare_power: float = 0.4


@dataclass(frozen=True)
class Crops:
    """A batch: images, boxes as masks over the patches (rows sum to 1), class shares of each box and window."""

    images: UInt8[np.ndarray, "b s s 3"]
    boxes: Float32[np.ndarray, "b k p"]
    box_shares: Float32[np.ndarray, "b k c"]
    window_shares: Float32[np.ndarray, "b c"]


class Cropper:
    """Draws batches of crops from labelled images."""

    def __init__(self, images: Sequence[LabelledImage], classes: int, settings: CropSettings) -> None:
        self._images = images
        self._classes = classes
        self._settings = settings
        self._seen = np.stack([self._counts(one.labels) for one in images])
        frequency = self._seen.sum(0) / max(1, self._seen.sum())
        self._weight = np.where(frequency > 0, np.maximum(frequency, 1e-4) ** -settings.rare_power, 0)

    def batch(self, size: int, rng: np.random.Generator) -> Crops:
        """``size`` windows with their boxes."""
        parts = [self._window(rng) for _ in range(size)]
        images, shares = np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts])
        cells = shares.shape[1]
        masks = np.stack([self._boxes(one, rng) for one in shares])
        flat = masks.reshape(size, self._settings.boxes, cells * cells)
        flat = flat / flat.sum(-1, keepdims=True)
        box_shares = flat @ shares.reshape(size, cells * cells, self._classes)
        return Crops(images, flat.astype(np.float32), box_shares.astype(np.float32), shares.mean((1, 2)))

    def shares(self, size: int, rng: np.random.Generator) -> Float32[np.ndarray, "n c"]:
        """Class shares of the boxes and windows of a batch, its pictures left out."""
        crops = self.batch(size, rng)
        return np.concatenate([crops.box_shares.reshape(-1, self._classes), crops.window_shares])

    def _counts(self, labels: np.ndarray) -> np.ndarray:
        coarse = labels[::2, ::2]
        return np.bincount(np.where(coarse < 0, self._classes - 1, coarse).ravel(), minlength=self._classes)

    def _window(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A window about a class drawn by rarity: image (s, s, 3) and patch shares (g, g, c)."""
        s = self._settings
        wanted = rng.choice(self._classes, p=self._weight / self._weight.sum())
        have = np.flatnonzero(self._seen[:, wanted] >= 4)
        picked = (
            self._images[int(rng.choice(have))] if len(have) else self._images[int(rng.integers(len(self._images)))]
        )
        labels = picked.labels
        side = s.window / np.exp(rng.uniform(*np.log(s.zoom)))
        side = int(min(round(side), *labels.shape))
        rows, columns = np.nonzero(labels == (wanted if wanted < self._classes - 1 else -1))
        at = rng.integers(len(rows)) if len(rows) else None
        v, u = (rows[at], columns[at]) if at is not None else (rng.integers(labels.shape[0]), 0)
        top, left = (
            int(np.clip(x - rng.integers(side), 0, length - side))
            for x, length in zip((v, u), labels.shape, strict=True)
        )
        image = picked.image[top : top + side, left : left + side]
        part = labels[top : top + side, left : left + side]
        method = cv2.INTER_AREA if side > s.window else cv2.INTER_CUBIC
        image = cv2.resize(image, (s.window, s.window), interpolation=method)
        part = cv2.resize(part.astype(np.int16), (s.window, s.window), interpolation=cv2.INTER_NEAREST)
        if rng.random() < 0.5:
            image, part = image[:, ::-1], part[:, ::-1]
        return augment(image, rng), shares_of(part.astype(np.int32), s.patch, self._classes)

    def _boxes(self, shares: Float32[np.ndarray, "g g c"], rng: np.random.Generator) -> Bool[np.ndarray, "k g g"]:
        """Masks of boxes, each about a class drawn by rarity among those the window shows."""
        s, cells = self._settings, shares.shape[0]
        present = np.flatnonzero(shares.max((0, 1)) > 0.2)
        weight = self._weight[present] + 1e-9
        masks = np.zeros((s.boxes, cells, cells), bool)
        for mask in masks:
            wanted = rng.choice(present, p=weight / weight.sum())
            strong = np.flatnonzero(shares[..., wanted].ravel() > 0.2)
            row, column = divmod(int(rng.choice(strong)), cells)
            height, width = (min(cells, int(rng.choice(s.box_sizes))) for _ in range(2))
            top = int(np.clip(row - rng.integers(height), 0, cells - height))
            left = int(np.clip(column - rng.integers(width), 0, cells - width))
            mask[top : top + height, left : left + width] = True
        return masks


def augment(image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Other light, other camera: gain, tint, gamma, noise, now and then blur or JPEG."""
    out = image.astype(np.float32) / 255
    out = np.clip(out * rng.uniform(0.7, 1.35) * rng.uniform(0.92, 1.08, 3).astype(np.float32), 0, 1)
    out = out ** rng.uniform(0.8, 1.25) + rng.normal(0, rng.uniform(0, 0.03), out.shape)
    if rng.random() < 0.2:
        out = np.asarray(cv2.GaussianBlur(out.astype(np.float32), (0, 0), rng.uniform(0.4, 1.0)))
    pixels = (np.clip(out, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.3:
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return pixels
