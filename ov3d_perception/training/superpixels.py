"""SLidR's superpixels: SLIC (Achanta et al., 2012), from scikit-image."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from ov3d_perception.errors import DatasetError
from ov3d_perception.training.recipe import MethodSpec


def superpixels(
    image: UInt8[np.ndarray, "h w 3"], uv: Float32[np.ndarray, "m 2"], spec: MethodSpec
) -> Int64[np.ndarray, " m"]:
    """The segment of each pixel ``uv`` of an RGB image, from 0; at most 2 * ``spec.segments`` - 1."""
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise DatasetError("SLidR's superpixels need scikit-image", "pip install scikit-image") from error
    segments = slic(
        image, n_segments=spec.segments, compactness=spec.compactness, sigma=spec.sigma, start_label=0, channel_axis=2
    )
    column, row = (np.clip(np.round(uv[:, axis]).astype(int), 0, image.shape[1 - axis] - 1) for axis in (0, 1))
    return np.minimum(segments[row, column].astype(np.int64), 2 * spec.segments - 1)
