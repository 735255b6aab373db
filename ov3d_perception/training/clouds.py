"""Scans of a source without images and labels, as a network is given them in live use."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ov3d_perception.datasets.bag_scans import scans_of_bag
from ov3d_perception.errors import Ov3dError
from ov3d_perception.geometry.sweeps import Merged, merge, recent
from ov3d_perception.lifting.sources import as_prepared, open_source
from ov3d_perception.networks.checkpoint_info import CheckpointInfo
from ov3d_perception.networks.inputs import point_inputs
from ov3d_perception.recipes.specs import SourceSpec
from ov3d_perception.sparse import SparseTensor, quantize
from ov3d_perception.types import Frame, Preparation

FEWEST = 1000
"""Points of a scan that is of use; a LiDAR that starts, or is covered, sends less."""
_log = logging.getLogger(__name__)


def clouds_of(
    preparation: Preparation, dataset: str, root: Path, options: Mapping[str, Any], scans: int
) -> Iterator[Merged]:
    """So many scans, spread over the source; all where it has fewer.

    One that cannot be read, or has fewer than :data:`FEWEST` points, is left out with a warning. Raises DatasetError,
    BagError where the source cannot be opened.
    """
    if dataset == "bag":
        prepared = as_prepared(SourceSpec(dataset, str(root), dict(options)), preparation).options
        source: Sequence[Frame] = scans_of_bag(root, prepared, "fixed_frame" in options)
    else:
        without = {} if dataset == "simulated" else {"images": False}  # which renders both together
        source = open_source(as_prepared(SourceSpec(dataset, str(root), {**options, **without}), preparation))
    return clouds_among(source, preparation, scans)


def clouds_among(source: Sequence[Frame], preparation: Preparation, scans: int) -> Iterator[Merged]:
    """So many scans of a source that is open, as :func:`clouds_of`."""
    for index in np.unique(np.linspace(0, len(source) - 1, min(scans, len(source))).round().astype(int)):
        try:
            frame = source[int(index)]
        except Ov3dError as error:
            _log.warning("Scan %d left out: %s", index, error)
            continue
        merged = merge(recent(frame.sweeps, preparation.sweeps, preparation.max_sweep_age))
        if len(merged.xyz) < FEWEST:
            _log.warning("Scan %d left out: it has %d points", index, len(merged.xyz))
            continue
        yield merged


def voxels_of(info: CheckpointInfo, cloud: Merged) -> SparseTensor:
    """The network's inputs."""
    points, intensity = torch.from_numpy(cloud.xyz), torch.from_numpy(cloud.intensity)
    coords, mean, _ = quantize(points, info.voxel_size, point_inputs(info.inputs, points, intensity, info.voxel_size))
    return SparseTensor(mean, coords)
