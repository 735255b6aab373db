"""Adapt a network to another LiDAR, or another site, by unlabelled scans alone: what ``ov3d checkpoint adapt`` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ov3d_perception.errors import DatasetError
from ov3d_perception.files import require_other
from ov3d_perception.networks.checkpoint import load_checkpoint, save_checkpoint, stored_type
from ov3d_perception.networks.statistics import estimate_statistics
from ov3d_perception.training.clouds import clouds_of, voxels_of


def adapt(
    checkpoint: Path, dataset: str, root: Path, out: Path, options: Mapping[str, Any] | None = None, scans: int = 50
) -> int:
    """Write ``checkpoint`` to ``out`` with its normalisation's statistics taken on the scans of a source.

    Another sensor returns other intensities, and another density; a network normalises its features by the means and
    variances of the clouds that it was trained on. Taken on the sensor's own clouds, they bring much of the loss back.
    Weights and words stay; the figures that the checkpoint states of itself and its calibration are left out. No image
    or label is read.

    Args:
        dataset, root, options: as for evaluation; "bag" for a bag.
        scans: how many, spread over the source; all where it has fewer. One that cannot be used is left out
            (:func:`clouds_of`).

    Returns how many scans there were. Raises CheckpointError, DatasetError, BagError as reading does, DatasetError
    where no scan is left, and WriteError where ``out`` is ``checkpoint`` itself.
    """
    require_other(out, checkpoint, "the network")
    network, info = load_checkpoint(checkpoint)
    clouds = clouds_of(info.preparation, dataset, root, options or {}, scans)
    count = estimate_statistics(network, (voxels_of(info, cloud) for cloud in clouds))
    if count == 0:
        raise DatasetError(f"No scan of {root} can be used", "Name a source with scans of the LiDAR to adapt to")
    about = replace(info, metrics={}, largest_outputs=())  # they were the former network's
    save_checkpoint(out, network.eval(), about, stored_type(network))
    return count
