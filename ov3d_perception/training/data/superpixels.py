"""SLidR's superpixels: SLIC (Achanta et al., 2012), from scikit-image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt16

from ov3d_perception.errors import DatasetError
from ov3d_perception.files import replacing
from ov3d_perception.recipes.method_specs import SlidrSpec


def superpixels(
    image: Callable[[], UInt8[np.ndarray, "h w 3"]],
    size: tuple[int, int],
    uv: Float32[np.ndarray, "m 2"],
    features: Path | None,
    spec: SlidrSpec,
) -> tuple[Int64[np.ndarray, " m"], int]:
    """The segment of each pixel ``uv`` of an RGB image, and a count that the segments' numbers stay below.

    Args:
        image: gives the image; called only where its segments are not stored.
        size: its (height, width).
        uv: pixels.
        features: the file of the image's teacher features; the segments are stored beside it, since SLIC takes 0.1 s.
        spec: SLIC's settings.
    """
    segments = _segments(image(), spec) if features is None else _stored(image, size, spec, features)
    column, row = (np.clip(np.round(uv[:, axis]).astype(int), 0, size[1 - axis] - 1) for axis in (0, 1))
    return np.minimum(segments[row, column].astype(np.int64), 2 * spec.segments - 1), 2 * spec.segments


def _stored(
    image: Callable[[], UInt8[np.ndarray, "h w 3"]], size: tuple[int, int], spec: SlidrSpec, features: Path
) -> UInt16[np.ndarray, "h w"]:
    settings = f"{size[0]}x{size[1]}-{spec.segments}-{spec.compactness:g}-{spec.sigma:g}"
    path = features.with_name(f"{features.stem}.slic-{settings}.npz")
    if not path.exists():
        with replacing(path, durable=False) as file:
            np.savez_compressed(file, segments=_segments(image(), spec))
    with np.load(path) as stored:
        segments: np.ndarray = stored["segments"]
    return segments


def _segments(image: UInt8[np.ndarray, "h w 3"], spec: SlidrSpec) -> UInt16[np.ndarray, "h w"]:
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise DatasetError("SLidR's superpixels need scikit-image", "pip install scikit-image") from error
    found: np.ndarray = slic(
        image, n_segments=spec.segments, compactness=spec.compactness, sigma=spec.sigma, start_label=0, channel_axis=2
    )
    return found.astype(np.uint16)
