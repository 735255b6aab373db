"""SLidR's superpixels: SLIC (Achanta et al., 2012), from scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt16

from ov3d_perception.errors import DatasetError
from ov3d_perception.files import replacing
from ov3d_perception.recipes.specs import MethodSpec


def superpixels(
    image: UInt8[np.ndarray, "h w 3"],
    uv: Float32[np.ndarray, "m 2"],
    spec: MethodSpec,
    features: Path | None = None,
) -> Int64[np.ndarray, " m"]:
    """The segment of each pixel ``uv`` of an RGB image, from 0; at most 2 * ``spec.segments`` - 1.

    features: the file of the image's teacher features; beside it segments are kept, since SLIC takes 0.1 s an image.
    """
    segments = _segments(image, spec) if features is None else _kept(image, spec, features)
    column, row = (np.clip(np.round(uv[:, axis]).astype(int), 0, image.shape[1 - axis] - 1) for axis in (0, 1))
    return np.minimum(segments[row, column].astype(np.int64), 2 * spec.segments - 1)


def _kept(image: UInt8[np.ndarray, "h w 3"], spec: MethodSpec, features: Path) -> UInt16[np.ndarray, "h w"]:
    height, width = image.shape[:2]
    settings = f"{height}x{width}-{spec.segments}-{spec.compactness:g}-{spec.sigma:g}"
    path = features.with_name(f"{features.stem}.slic-{settings}.npz")
    if not path.exists():
        with replacing(path, durable=False) as file:
            np.savez_compressed(file, segments=_segments(image, spec))
    with np.load(path) as stored:
        kept: np.ndarray = stored["segments"]
    return kept


def _segments(image: UInt8[np.ndarray, "h w 3"], spec: MethodSpec) -> UInt16[np.ndarray, "h w"]:
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise DatasetError("SLidR's superpixels need scikit-image", "pip install scikit-image") from error
    found: np.ndarray = slic(
        image, n_segments=spec.segments, compactness=spec.compactness, sigma=spec.sigma, start_label=0, channel_axis=2
    )
    return found.astype(np.uint16)
