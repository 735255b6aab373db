"""Adapt a network to another LiDAR, or another site, by unlabelled scans alone: what ``ov3d checkpoint adapt`` does."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ov3d_perception.datasets.bag_scans import scans_of_bag
from ov3d_perception.errors import DatasetError, Ov3dError
from ov3d_perception.geometry.sweeps import merge, recent
from ov3d_perception.lifting.sources import as_prepared, open_source
from ov3d_perception.networks.checkpoint import load_checkpoint, save_checkpoint
from ov3d_perception.networks.checkpoint_info import CheckpointInfo
from ov3d_perception.networks.inputs import point_inputs
from ov3d_perception.networks.statistics import estimate_statistics
from ov3d_perception.recipes.specs import SourceSpec
from ov3d_perception.sparse import SparseTensor, quantize

FEWEST = 1000
"""Points of a scan from which statistics are taken; a LiDAR that starts, or is covered, sends less."""
_log = logging.getLogger(__name__)


def adapt(
    checkpoint: Path, dataset: str, root: Path, out: Path, options: Mapping[str, Any] | None = None, scans: int = 50
) -> int:
    """Write ``checkpoint`` to ``out`` with its normalisation's statistics taken on the scans of a source.

    Another sensor returns other intensities, and another density; a network normalises its features by the means and
    variances of the clouds that it was trained on. Taken on the sensor's own clouds, they bring much of the loss back.
    Weights and words stay; the figures that the checkpoint states of itself are left out. No image or label is read.

    Args:
        dataset, root, options: as for evaluation; "bag" for a bag.
        scans: how many, spread over the source; all where it has fewer. One that cannot be read, or
            has fewer than :data:`FEWEST` points, is left out.

    Returns how many scans there were. Raises CheckpointError, DatasetError, BagError as reading does, and DatasetError
    where no scan is left.
    """
    network, info = load_checkpoint(checkpoint)
    count = estimate_statistics(network, _clouds(info, dataset, root, dict(options or {}), scans))
    if count == 0:
        raise DatasetError(f"No scan of {root} can be used", "Name a source with scans of the LiDAR to adapt to")
    halves = all(torch.equal(kernel, kernel.half().float()) for kernel in network.parameters() if kernel.dim() >= 2)
    dtype = torch.float16 if halves else torch.float32  # as it was stored: weights stay to the bit
    save_checkpoint(out, network.eval(), replace(info, metrics={}), dtype)
    return count


def _clouds(
    info: CheckpointInfo, dataset: str, root: Path, options: dict[str, Any], scans: int
) -> Iterator[SparseTensor]:
    """What the network is given of the scans, as in live use."""
    preparation = info.preparation
    if dataset == "bag":
        prepared = as_prepared(SourceSpec(dataset, str(root), options), preparation).options
        source: Any = scans_of_bag(root, prepared, "fixed_frame" in options)
    else:
        without = {} if dataset == "simulated" else {"images": False}  # which renders both together
        source = open_source(as_prepared(SourceSpec(dataset, str(root), options | without), preparation))
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
        points, intensity = torch.from_numpy(merged.xyz), torch.from_numpy(merged.intensity)
        inputs = point_inputs(info.inputs, points, intensity, info.voxel_size)
        coords, mean, _ = quantize(points, info.voxel_size, inputs)
        yield SparseTensor(mean, coords)
