"""Frames into training samples: a cloud, and which pixel of which teacher map sees which of its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32, Int8, Int64
from torch import Tensor

from ov3d_perception.errors import DatasetError
from ov3d_perception.files import replacing
from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.occlusion import OcclusionTest
from ov3d_perception.language.sample import sample_features
from ov3d_perception.methods.openscene import fuse_views
from ov3d_perception.recipes.specs import PairSpec
from ov3d_perception.types import Frame, PixelPointPairs, View

_ROWS = ("point", "row")  # 32 bits on disk


@dataclass(frozen=True)
class Sample:
    """A merged cloud in the key sweep's frame, and what images say of it.

    point: rows of the points that an image sees. row: of each of them, the row of ``code``, ``scale`` and
    ``confidence`` that holds what is said (see :mod:`.compact`, :mod:`.consolidate`).
    """

    xyz: Float32[np.ndarray, "n 3"]
    intensity: Float32[np.ndarray, " n"]
    point: Int64[np.ndarray, " m"]
    row: Int64[np.ndarray, " m"]
    code: Int8[np.ndarray, "v k"]
    scale: Float16[np.ndarray, " v"]
    confidence: Float16[np.ndarray, " v"]


def pair(frame: Frame, spec: PairSpec, views: Sequence[View] | None = None) -> PixelPointPairs:
    """The pairs of a frame's first ``spec.sweeps`` sweeps with its own views, or with ``views``."""
    chosen = replace(frame, sweeps=frame.sweeps[: spec.sweeps], views=tuple(frame.views if views is None else views))
    return associate(
        chosen,
        min_depth=spec.min_depth,
        max_depth=spec.max_depth,
        border=spec.border,
        occlusion=OcclusionTest(radius_px=spec.occlusion_radius) if spec.occlusion else None,
    )


def image_size(view: View) -> tuple[int, int]:
    """(height, width) of a view's calibration, in which its pairs are measured."""
    return view.camera.height, view.camera.width


def fused_teacher(
    maps: Sequence[Float[Tensor, "d _ _"]], sizes: Sequence[tuple[int, int]], pairs: PixelPointPairs, points: int
) -> Float[Tensor, "points d"]:
    """OpenScene's multi-view average for ``points`` points; zero for a point that no view sees."""
    features, rows = [], []
    for index, (dense, size) in enumerate(zip(maps, sizes, strict=True)):
        mine = pairs.camera == index
        features.append(sample_features(dense, torch.from_numpy(pairs.uv[mine]), size))
        rows.append(torch.from_numpy(pairs.point[mine]))
    target = torch.cat(rows)
    return fuse_views(torch.cat(features), target, torch.ones(len(target)), points)


def save_sample(path: Path, sample: Sample) -> None:
    """Write a sample, uncompressed, whole or not at all."""
    arrays: dict[str, Any] = {
        **vars(sample),
        "point": sample.point.astype(np.int32),
        "row": sample.row.astype(np.int32),
    }
    with replacing(path, durable=False) as file:
        np.savez(file, **arrays)


def load_sample(path: Path) -> Sample:
    """Read what :func:`save_sample` wrote. Raises DatasetError where it is gone or damaged."""
    try:
        with np.load(path) as data:
            arrays = {name: data[name] for name in data.files}
            arrays |= {name: arrays[name].astype(np.int64) for name in _ROWS}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise DatasetError(f"The sample {path} cannot be read ({error})", "Start the run anew") from error
    return Sample(**arrays)
