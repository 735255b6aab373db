"""Frames into training samples: a cloud, and which pixel of which teacher map sees which of its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from scipy.sparse import csr_array
from torch import Tensor

from ov3d_perception.errors import DatasetError
from ov3d_perception.files import replacing
from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.occlusion import OcclusionTest
from ov3d_perception.geometry.sweeps import merge
from ov3d_perception.language.sample import sample_features, sample_weights
from ov3d_perception.lifting.image_teacher import ImageTeacher, load_map
from ov3d_perception.methods.openscene import fuse_views
from ov3d_perception.recipes.specs import PairSpec
from ov3d_perception.types import Frame, PixelPointPairs, View


@dataclass(frozen=True)
class Sample:
    """A merged cloud in the key sweep's frame and its pairs: pixel ``uv`` of map ``view`` sees row ``point``.

    sizes: (height, width) of the image each map was made of; maps: file names in the teacher's folder.
    """

    xyz: Float32[np.ndarray, "n 3"]
    intensity: Float32[np.ndarray, " n"]
    point: Int64[np.ndarray, " m"]
    view: Int64[np.ndarray, " m"]
    uv: Float32[np.ndarray, "m 2"]
    sizes: Int64[np.ndarray, "v 2"]
    maps: tuple[str, ...]


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


def make_sample(frame: Frame, views: Sequence[View], teacher: ImageTeacher, spec: PairSpec) -> Sample:
    """Associate, and make sure that the teacher's maps are on disk. A view that sees no point costs nothing."""
    pairs = pair(frame, spec, views)
    used = np.unique(pairs.camera)
    merged = merge(frame.sweeps[: spec.sweeps])
    return Sample(
        xyz=merged.xyz,
        intensity=merged.intensity,
        point=pairs.point.astype(np.int64),
        view=np.searchsorted(used, pairs.camera).astype(np.int64),
        uv=pairs.uv,
        sizes=np.array([image_size(views[i]) for i in used], np.int64).reshape(-1, 2),
        maps=tuple(teacher.store(views[i].image) for i in used),
    )


def save_sample(path: Path, sample: Sample) -> None:
    """Write a sample, uncompressed, whole or not at all."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(sample).items()}
    with replacing(path, durable=False) as file:
        np.savez(file, **arrays)


def load_sample(path: Path) -> Sample:
    """Read what :func:`save_sample` wrote. Raises DatasetError where it is gone or damaged."""
    try:
        with np.load(path) as data:
            arrays = {name: data[name] for name in data.files}
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise DatasetError(f"The sample {path} cannot be read ({error})", "Start the run anew") from error
    return Sample(**{**arrays, "maps": tuple(arrays["maps"].tolist())})


def fused_targets(
    point: Int64[np.ndarray, " m"],
    view: Int64[np.ndarray, " m"],
    uv: Float32[np.ndarray, "m 2"],
    sizes: Sequence[tuple[int, int]],
    maps: Sequence[Path],
    target: Int64[Tensor, " m"],
    count: int,
) -> Float[Tensor, "count d"]:
    """OpenScene's multi-view average for ``count`` targets (voxels); zero for a target without a pair.

    Args:
        point, view, uv: pairs as in :class:`Sample`.
        sizes, maps: (height, width) and file of each view's map.
        target: row of each pair's target, -1 for none. Every point weighs the same, however many views see it.
    """
    weight = torch.from_numpy(1.0 / np.bincount(point)[point]).float()
    pixels, image = torch.from_numpy(uv), torch.from_numpy(view)
    patches: list[Float[Tensor, "d p"]] = []
    rows, columns, values, first = [], [], [], 0
    for number, (size, path) in enumerate(zip(sizes, maps, strict=True)):
        mine = torch.nonzero((target >= 0) & (image == number))[:, 0]
        dense = load_map(path)
        patch, share = sample_weights(dense, pixels[mine], size)
        rows.append(target[mine].repeat_interleave(4))
        columns.append(patch.flatten() + first)
        values.append((share * weight[mine, None]).flatten())
        patches.append(dense.flatten(1))
        first += patches[-1].shape[1]
    if not patches:
        raise ValueError("A cloud without a map has no targets")
    where = (torch.cat(rows).numpy(), torch.cat(columns).numpy())
    sums = csr_array((torch.cat(values).numpy(), where), shape=(count, first))
    return F.normalize(torch.from_numpy(sums @ torch.cat(patches, dim=1).T.contiguous().numpy()), dim=1)
