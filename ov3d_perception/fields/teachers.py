"""What images teach a field: CLIP's features of pixels at several scales, and features that tell where things end.

Both are computed once for each training view and kept on the disk, in half precision and by cells of pixels.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor
from torch.nn import functional

from ov3d_perception.fields.scene import Scene
from ov3d_perception.files import replacing
from ov3d_perception.language.encoder import Encoder
from ov3d_perception.language.pyramid import PyramidSettings, pixel_features

_log = logging.getLogger(__name__)

Edges = Callable[[UInt8[np.ndarray, "h w 3"]], Float[Tensor, "gh gw e"]]


@dataclass(frozen=True)
class TeacherSettings:
    """pyramid: "patches", Algorithm 1, or "dense", the encoder's features of patches seen in windows of the scales'
    sizes: some ten times faster with a large tower. scales: divisors of the shorter side, the patches' or windows'
    size; overlap: of Algorithm 1; way: of "dense", how the last block attends (language/dense). cell: pixels a side
    of the stored cells. edges_downsample: of the image that DINO, or the encoder in its place, sees.
    """

    pyramid: str = "patches"
    scales: tuple[int, ...] = (5, 7, 10)
    overlap: int = 4
    way: str = "scclip"
    cell: int = 8
    edges_downsample: float = 1.0


@dataclass(frozen=True)
class Teachers:
    """By view: clip, unit features at each scale; edges, features whose cosines say what belongs together."""

    clip: dict[int, Float16[np.ndarray, "s gh gw d"]]
    edges: dict[int, Float16[np.ndarray, "eh ew e"]]

    @property
    def nbytes(self) -> int:
        """Bytes of all features."""
        return sum(array.nbytes for group in (self.clip, self.edges) for array in group.values())


def pyramid_of(
    image: UInt8[np.ndarray, "h w 3"], encoder: Encoder, settings: TeacherSettings, seed: int
) -> Float[Tensor, "s gh gw d"]:
    """CLIP's features of an image's pixels at all scales."""
    if settings.pyramid == "patches":
        pyramid = PyramidSettings(settings.scales, settings.overlap, settings.cell)
        return pixel_features(image, encoder.encode_image, pyramid, np.random.default_rng(seed))
    height, width = image.shape[:2]
    grid = tuple(max(1, side // settings.cell) for side in (height, width))
    side = encoder.model.visual.image_size[0]
    found = []
    for divisor in settings.scales:
        zoom = side * divisor / min(height, width)  # the window of that scale becomes the tower's own image
        seen = encoder.see(window=side, stride=side // 2, scales=(1.0,), way=settings.way)
        dense = seen.dense([image], (round(height * zoom), round(width * zoom))).float().cpu()
        dense = functional.interpolate(dense, grid, mode="area" if dense.shape[2] > grid[0] else "bilinear")
        found.append(functional.normalize(dense[0], dim=0).permute(1, 2, 0))
    return torch.stack(found)


def finest_edges(clip: Float[Tensor, "s gh gw d"], scales: tuple[int, ...]) -> Float[Tensor, "gh gw d"]:
    """Edges without DINO, of a dense pyramid: its finest scale less the mean over the image, so that cosines tell
    apart. They are smaller than DINO's: two places of one thing have 0.3 and more, where those have 0.7."""
    finest = clip[int(np.argmax(scales))]
    return functional.normalize(finest - finest.mean((0, 1)), dim=-1)


def encoder_edges(encoder: Encoder, cell: int) -> Edges:
    """Edges without DINO and without a dense pyramid: the encoder's dense features of the whole image, likewise."""

    def edges(image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "gh gw e"]:
        dense = encoder.dense([image])[0].float().cpu()
        grid = tuple(max(1, side // cell) for side in image.shape[:2])
        dense = functional.interpolate(dense[None], grid, mode="bilinear", align_corners=False)[0]
        return functional.normalize(dense - dense.mean((1, 2), keepdim=True), dim=0).permute(1, 2, 0)

    return edges


def teach(
    scene: Scene,
    encoder: Encoder,
    edges: Edges | None,
    settings: TeacherSettings,
    folder: Path,
    edges_name: str,
    seed: int = 0,
) -> Teachers:
    """The teachers of the training views: read where they lie in ``folder``, else computed and written there.

    edges: None for :func:`finest_edges`. A file's name depends on all that its content does: image, encoder, settings,
    seed.
    """
    clip, edge = {}, {}
    for count, number in enumerate(scene.training):
        image = scene.views[number].image
        key = hashlib.sha256(image.tobytes())
        key.update(f"{image.shape}|{encoder.identity}|{encoder.dense_key}|{settings}|{seed}|{edges_name}".encode())
        path = folder / f"{scene.names[number]}_{key.hexdigest()[:16]}.npz"
        known = _read(path)
        if known is None:
            features = pyramid_of(image, encoder, settings, seed * 1000 + number)
            if edges is None:
                ends = finest_edges(features, settings.scales)
            else:
                small = 1 / settings.edges_downsample
                ends = edges(cv2.resize(image, None, fx=small, fy=small, interpolation=cv2.INTER_AREA))
            known = features.half().numpy(), ends.half().numpy()
            content = io.BytesIO()
            np.savez(content, clip=known[0], edges=known[1])
            with replacing(path, durable=False) as file:
                file.write(content.getvalue())
            _log.info("features of %s: %d of %d images", scene.names[number], count + 1, len(scene.training))
        clip[number], edge[number] = known
    return Teachers(clip, edge)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with np.load(path) as archive:
            return archive["clip"], archive["edges"]
    except (OSError, ValueError, KeyError, EOFError):
        return None
